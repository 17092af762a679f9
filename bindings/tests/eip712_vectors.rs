//! `test/vectors/eip712.json`, which viem made, made anew by alloy: every hash and signature from the message alone.

use std::{borrow::Cow, collections::HashSet, str::FromStr};

use alloy::{
    dyn_abi::TypedData,
    hex,
    primitives::{Address, B256, Signature, U256, address, keccak256},
    signers::{SignerSync, local::PrivateKeySigner},
    sol_types::{Eip712Domain, SolStruct, SolValue, eip712_domain},
};
use lloom_bindings::eip712::{
    ChannelGrant, ChannelPreimage, CloseAuthorization, InferenceRequest, RequestCloseAuthorization,
    SettleAuthorization, TopUpGrant, TowerAppointment, UsageBill, UsageReceipt, Voucher, escrow_domain,
    settlement_domain,
};
use serde_json::Value;

const FILE: &str = include_str!("../../test/vectors/eip712.json");
const PERMIT2: Address = address!("000000000022D473030F116dDEE9F6B43aC78BA3");

/// EIP-3009's type, as tokens have it.
mod eip3009 {
    alloy::sol! {
        struct ReceiveWithAuthorization {
            address from;
            address to;
            uint256 value;
            uint256 validAfter;
            uint256 validBefore;
            bytes32 nonce;
        }

        /// draft-evm-session-00, "Front-Running Protection".
        struct OpenNoncePreimage {
            address from;
            address payee;
            address token;
            bytes32 salt;
            address authorizedSigner;
        }

        /// draft-evm-session-00, "Front-Running Protection".
        struct TopUpNoncePreimage {
            bytes32 channelId;
            uint128 additionalDeposit;
            address from;
            bytes32 topUpSalt;
        }

        struct DepositNoncePreimage {
            address from;
            address token;
            bytes32 depositSalt;
        }
    }
}

/// Permit2's type with the witness that opens a channel (draft-evm-session-00, "Open Payload (feePayer: true)").
mod permit2_open {
    alloy::sol! {
        struct TokenPermissions {
            address token;
            uint256 amount;
        }

        struct ChannelOpenWitness {
            address payee;
            bytes32 salt;
            address authorizedSigner;
        }

        struct PermitWitnessTransferFrom {
            TokenPermissions permitted;
            address spender;
            uint256 nonce;
            uint256 deadline;
            ChannelOpenWitness witness;
        }
    }
}

/// Permit2's type with the witness that tops a channel up.
mod permit2_top_up {
    alloy::sol! {
        struct TokenPermissions {
            address token;
            uint256 amount;
        }

        struct ChannelTopUpWitness {
            bytes32 channelId;
        }

        struct PermitWitnessTransferFrom {
            TokenPermissions permitted;
            address spender;
            uint256 nonce;
            uint256 deadline;
            ChannelTopUpWitness witness;
        }
    }
}

#[test]
fn every_vector_is_what_alloy_makes_of_its_message() {
    let types = signed_types();
    let mut met = HashSet::new();
    for vector in entries("vectors") {
        let name = text(&vector, "name");
        let encoded_type = text(&vector, "encodedType");
        let Some(signed) = types.iter().find(|signed| signed.encoded_type == encoded_type) else {
            panic!("{name}: unknown type {encoded_type}");
        };
        met.insert(encoded_type.to_owned());

        let chain_id = FromJson::from_json(&vector["domain"]["chainId"]);
        let domain = (signed.domain)(chain_id, FromJson::from_json(&vector["domain"]["verifyingContract"]));
        let struct_hash = (signed.struct_hash)(&vector["message"]);
        let digest = keccak256([&[0x19, 0x01], &domain.separator()[..], &struct_hash[..]].concat());
        assert_eq!(
            text(&vector, "domainSeparator"),
            domain.separator().to_string(),
            "{name}"
        );
        assert_eq!(text(&vector, "structHash"), struct_hash.to_string(), "{name}");
        assert_eq!(text(&vector, "digest"), digest.to_string(), "{name}");

        let key: PrivateKeySigner = text(&vector, "privateKey").parse().expect("a private key");
        let signature = key.sign_hash_sync(&digest).expect("signs");
        assert_eq!(text(&vector, "signer"), lowercase(key.address()), "{name}");
        assert_eq!(
            text(&vector, "signature"),
            hex::encode_prefixed(signature.as_bytes()),
            "{name}"
        );
        assert_eq!(
            text(&vector, "compactSignature"),
            hex::encode_prefixed(signature.as_erc2098()),
            "{name}"
        );

        let given = Signature::from_str(text(&vector, "signature")).expect("a signature");
        let compact = hex::decode(text(&vector, "compactSignature")).expect("hex");
        assert_eq!(Signature::from_erc2098(&compact), given, "{name}");
        assert_eq!(
            given.recover_address_from_prehash(&digest).expect("recovers"),
            key.address(),
            "{name}"
        );
    }
    for signed in &types {
        assert!(
            met.contains(&*signed.encoded_type),
            "no vector of {}",
            signed.encoded_type
        );
    }
}

/// The types that a vector carries along are those it was made with: as typed data it is complete.
#[test]
fn every_vector_is_typed_data_with_its_digest() {
    for vector in entries("vectors") {
        let name = text(&vector, "name");
        let typed: TypedData = serde_json::from_value(vector.clone()).expect(name);
        assert_eq!(
            typed.domain.encode_type(),
            format!("EIP712Domain{}", listed(&vector["types"]["EIP712Domain"])),
            "{name}"
        );
        assert_eq!(typed.primary_type, text(&vector, "primaryType"), "{name}");
        assert_eq!(typed.encode_type().expect(name), text(&vector, "encodedType"), "{name}");
        assert_eq!(
            typed.eip712_signing_hash().expect(name).to_string(),
            text(&vector, "digest"),
            "{name}"
        );
    }
}

#[test]
fn every_derivation_is_what_alloy_makes_of_its_inputs() {
    for derivation in entries("derivations") {
        let (name, inputs) = (text(&derivation, "name"), &derivation["inputs"]);
        let (encoded, encoded_type) = match text(&derivation, "kind") {
            "channelId" => preimage::<ChannelPreimage>(inputs),
            "openNonce" => preimage::<eip3009::OpenNoncePreimage>(inputs),
            "topUpNonce" => preimage::<eip3009::TopUpNoncePreimage>(inputs),
            "depositNonce" => preimage::<eip3009::DepositNoncePreimage>(inputs),
            "domainSeparator" => {
                let domain = domain_named(inputs);
                assert_eq!(text(&derivation, "hash"), domain.separator().to_string(), "{name}");
                let encoded = [domain.type_hash().to_vec(), domain.encode_data()].concat();
                (encoded, domain.encode_type().into())
            }
            unknown => panic!("{name}: unknown derivation {unknown}"),
        };
        assert_eq!(text(&derivation, "encoded"), hex::encode_prefixed(&encoded), "{name}");
        assert_eq!(text(&derivation, "hash"), keccak256(&encoded).to_string(), "{name}");
        assert!(encoded_type.ends_with(&listed(&derivation["parameters"])), "{name}");
    }
}

/// The documentation of the vectors promises it.
#[test]
fn documents_and_nonces_are_those_of_other_entries() {
    let (vectors, derivations) = (entries("vectors"), entries("derivations"));
    let vector = |name| named(&vectors, name);
    let derived = |name| text(named(&derivations, name), "hash");

    for (bill, request) in [("bill-first", "request-first"), ("bill-next-by-payee", "request-next")] {
        assert_eq!(vector(bill)["message"]["requestHash"], vector(request)["structHash"]);
    }
    for (receipt, bill) in [("receipt-first", "bill-first"), ("receipt-next", "bill-next-by-payee")] {
        assert_eq!(vector(receipt)["message"]["bill"], vector(bill)["message"]);
    }
    assert_eq!(
        vector("receipt-next")["message"]["previousReceipt"],
        vector("receipt-first")["structHash"]
    );

    for (authorization, nonce) in [
        ("receive-to-open", "open-nonce-own"),
        ("receive-to-open-delegated", "open-nonce-delegated"),
        ("receive-to-top-up", "top-up-nonce"),
        ("receive-to-top-up-by-another", "top-up-nonce-by-another"),
        ("receive-to-deposit", "deposit-nonce"),
    ] {
        let message = &vector(authorization)["message"];
        assert_eq!(message["nonce"], derived(nonce));
        assert_eq!(message["from"], named(&derivations, nonce)["inputs"]["from"]);
    }
    assert_eq!(vector("voucher-own")["message"]["channelId"], derived("channel-id-own"));
    assert_eq!(
        vector("voucher-delegated")["message"]["channelId"],
        derived("channel-id-delegated")
    );
}

/// A type that is signed, and where.
struct SignedType {
    encoded_type: Cow<'static, str>,
    struct_hash: fn(&Value) -> B256,
    domain: fn(u64, Address) -> Eip712Domain,
}

fn signed_types() -> [SignedType; 13] {
    fn signed<T: SolStruct + FromJson>(domain: fn(u64, Address) -> Eip712Domain) -> SignedType {
        SignedType {
            encoded_type: T::eip712_encode_type(),
            struct_hash: |message| T::from_json(message).eip712_hash_struct(),
            domain,
        }
    }
    [
        signed::<Voucher>(escrow_domain),
        signed::<SettleAuthorization>(escrow_domain),
        signed::<CloseAuthorization>(escrow_domain),
        signed::<RequestCloseAuthorization>(escrow_domain),
        signed::<ChannelGrant>(escrow_domain),
        signed::<TopUpGrant>(escrow_domain),
        signed::<InferenceRequest>(settlement_domain),
        signed::<UsageBill>(settlement_domain),
        signed::<UsageReceipt>(settlement_domain),
        signed::<TowerAppointment>(settlement_domain),
        signed::<eip3009::ReceiveWithAuthorization>(dev_token_domain),
        signed::<permit2_open::PermitWitnessTransferFrom>(permit2_domain),
        signed::<permit2_top_up::PermitWitnessTransferFrom>(permit2_domain),
    ]
}

fn dev_token_domain(chain_id: u64, token: Address) -> Eip712Domain {
    eip712_domain! { name: "Lloom Dev Token", version: "1", chain_id: chain_id, verifying_contract: token, }
}

fn permit2_domain(chain_id: u64, permit2: Address) -> Eip712Domain {
    assert_eq!(permit2, PERMIT2);
    eip712_domain! { name: "Permit2", chain_id: chain_id, verifying_contract: permit2, }
}

fn domain_named(json: &Value) -> Eip712Domain {
    let domain = match text(json, "name") {
        "EVM Payment Channel" => escrow_domain,
        "Lloom" => settlement_domain,
        "Lloom Dev Token" => dev_token_domain,
        "Permit2" => permit2_domain,
        unknown => panic!("unknown domain {unknown}"),
    };
    domain(
        FromJson::from_json(&json["chainId"]),
        FromJson::from_json(&json["verifyingContract"]),
    )
}

/// `abi.encode` of the inputs, and the type that they have.
fn preimage<T: SolStruct + SolValue + FromJson>(inputs: &Value) -> (Vec<u8>, Cow<'static, str>) {
    (T::from_json(inputs).abi_encode(), T::eip712_encode_type())
}

/// Fields as a type's encoding lists them: `(type name,…)`.
fn listed(fields: &Value) -> String {
    let fields = fields.as_array().expect("fields");
    let fields: Vec<String> = fields
        .iter()
        .map(|field| format!("{} {}", text(field, "type"), text(field, "name")))
        .collect();
    format!("({})", fields.join(","))
}

fn entries(key: &str) -> Vec<Value> {
    let mut file: Value = serde_json::from_str(FILE).expect("JSON");
    let Value::Array(entries) = file[key].take() else {
        panic!("no list of {key}")
    };
    entries
}

fn named<'a>(entries: &'a [Value], name: &str) -> &'a Value {
    entries.iter().find(|entry| entry["name"] == name).expect(name)
}

fn text<'a>(entry: &'a Value, key: &str) -> &'a str {
    entry[key].as_str().expect(key)
}

fn lowercase(address: Address) -> String {
    address.to_string().to_lowercase()
}

/// A value as the file writes it: nothing is left out, nothing left over, and each value has one spelling.
trait FromJson {
    fn from_json(json: &Value) -> Self;
}

macro_rules! values_from_json {
    ($($type:ty),+) => {$(
        impl FromJson for $type {
            fn from_json(json: &Value) -> Self {
                let text = json.as_str().expect("a string");
                let value = Self::from_str(text).expect(text);
                assert_eq!(value.to_string().to_lowercase(), text);
                value
            }
        }
    )+};
}

macro_rules! structs_from_json {
    ($($type:path { $($field:ident),+ })+) => {$(
        impl FromJson for $type {
            fn from_json(json: &Value) -> Self {
                let fields = json.as_object().expect("an object");
                assert_eq!(fields.len(), [$(stringify!($field)),+].len());
                Self { $($field: FromJson::from_json(&fields[stringify!($field)])),+ }
            }
        }
    )+};
}

values_from_json!(u32, u64, u128, U256, B256, Address);

structs_from_json! {
    Voucher { channelId, cumulativeAmount }
    SettleAuthorization { channelId, cumulativeAmount, nonce, deadline }
    CloseAuthorization { channelId, cumulativeAmount, nonce, deadline }
    RequestCloseAuthorization { channelId, nonce, deadline }
    ChannelGrant { payer, payee, token, deposit, salt, authorizedSigner, deadline }
    TopUpGrant { channelId, deposit, deadline }
    InferenceRequest {
        channelId, operator, nonce, model, promptHash, maxInputTokens, maxOutputTokens, inputPrice, outputPrice, deadline
    }
    UsageBill { channelId, requestHash, responseHash, inputTokens, outputTokens, amount, completedAt }
    UsageReceipt {
        channelId, sequence, cumulativeInputTokens, cumulativeOutputTokens, cumulativeAmount, previousReceipt, bill
    }
    TowerAppointment {
        channelId, tower, operator, cumulativeAmount, claimAmount, minimumValue, maxFeePerGas, takenAt, expiresAt
    }
    ChannelPreimage { payer, payee, token, salt, authorizedSigner, escrow, chainId }

    eip3009::ReceiveWithAuthorization { from, to, value, validAfter, validBefore, nonce }
    eip3009::OpenNoncePreimage { from, payee, token, salt, authorizedSigner }
    eip3009::TopUpNoncePreimage { channelId, additionalDeposit, from, topUpSalt }
    eip3009::DepositNoncePreimage { from, token, depositSalt }

    permit2_open::TokenPermissions { token, amount }
    permit2_open::ChannelOpenWitness { payee, salt, authorizedSigner }
    permit2_open::PermitWitnessTransferFrom { permitted, spender, nonce, deadline, witness }

    permit2_top_up::TokenPermissions { token, amount }
    permit2_top_up::ChannelTopUpWitness { channelId }
    permit2_top_up::PermitWitnessTransferFrom { permitted, spender, nonce, deadline, witness }
}
