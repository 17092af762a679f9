use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use alloy::{
    primitives::{Address, B256, U256},
    sol_types::SolCall,
};
use eyre::{Result, WrapErr, ensure};
use lloom_bindings::{ChannelEscrow, DevToken};
use lloom_ledger::{AcceptRequest, ExposurePolicy, Ledger, StoreDeployment};
use lloom_receipts::{
    ChannelId, ChannelParameters, ContentHash, ContentSalt, InferenceRequest, Keypair, ModelHash, PricePerMillion,
    Prices, RequestNonce, TokenAmount, TokenCount, UnixSeconds, Usage, UsageBill, Voucher,
};
use serde_json::json;

use crate::{Anvil, Chain, Due, Seller, wait};

/// What a patron's channel holds, base units.
const DEPOSIT: u128 = 10_000_000;

/// An executor's work without its network: payers with channels on the chain, and units that its store accepts durably, as
/// its node would, while no other process has the store.
#[derive(Debug)]
pub struct Till {
    store: PathBuf,
    deployment: StoreDeployment,
    operator: Address,
    payee: Address,
    escrow: Address,
    /// Who pays.
    pub patrons: Vec<Patron>,
    nonces: u64,
}

/// A payer with one channel.
#[derive(Clone, Debug)]
pub struct Patron {
    /// Its channel.
    pub channel: ChannelId,
    /// Whose it is.
    pub payer: Address,
    /// What was billed on it: what the payee has to get, and no more.
    pub owed: TokenAmount,
    signer: Keypair,
}

impl Till {
    /// Opens `count` channels that pay `seller`, straight on the chain.
    ///
    /// # Errors
    /// When a transaction fails.
    pub async fn open(chain: &Chain, seller: &Seller, count: u8) -> Result<Self> {
        let domain = chain.money.domain();
        let mut till = Self {
            store: seller.home.path("lloom.db"),
            deployment: StoreDeployment::from(&domain),
            operator: seller.operator(),
            payee: seller.paid_to,
            escrow: domain.escrow(),
            patrons: Vec::new(),
            nonces: 0,
        };
        for number in 1..=count {
            let signer = Keypair::from_secret([number; 32]).wrap_err("a key")?;
            let mut payer = Address::repeat_byte(number);
            payer.0[0] = 0xa0;
            let parameters = ChannelParameters {
                payer,
                payee: seller.paid_to,
                token: chain.money.token(),
                salt: B256::repeat_byte(number),
                authorized_signer: signer.address(),
            };
            let amount = U256::from(DEPOSIT);
            let mint = DevToken::mintCall { to: payer, amount };
            let approve = DevToken::approveCall {
                spender: till.escrow,
                value: amount,
            };
            let open = ChannelEscrow::openCall {
                payee: parameters.payee,
                token: parameters.token,
                amount: DEPOSIT,
                salt: parameters.salt,
                authorizedSigner: parameters.authorized_signer,
            };
            send(&chain.anvil, payer, parameters.token, &mint).await?;
            send(&chain.anvil, payer, parameters.token, &approve).await?;
            send(&chain.anvil, payer, till.escrow, &open).await?;
            till.patrons.push(Patron {
                channel: parameters.id(&domain),
                payer,
                owed: TokenAmount::ZERO,
                signer,
            });
        }
        Ok(till)
    }

    /// Has the store accept one unit for each of `sales` (a patron, and how many base units), durably: when this returns,
    /// they are owed.
    ///
    /// # Errors
    /// When the store refuses, or another process has it.
    pub async fn sell(&mut self, sales: &[(usize, u32)]) -> Result<()> {
        let ledger = Ledger::open(&self.store, &self.deployment)
            .await
            .wrap_err("opening the store")?;
        for (patron, tokens) in sales {
            self.sell_one(&ledger, *patron, *tokens).await?;
        }
        ledger.close().await;
        Ok(())
    }

    async fn sell_one(&mut self, ledger: &Ledger, patron: usize, tokens: u32) -> Result<()> {
        let domain = self.deployment.domain();
        let now = UnixSeconds::from(SystemTime::now());
        // A process that died after it had sold this, and before it said so, is no reason to sell under the same nonce.
        self.nonces += 1;
        let patron = &mut self.patrons[patron];
        let salt = ContentSalt::new(B256::repeat_byte(1));
        let request = InferenceRequest {
            channel: patron.channel,
            operator: self.operator,
            nonce: RequestNonce::new(U256::from(self.nonces)),
            model: ModelHash::of_id("test"),
            prompt_hash: ContentHash::of(salt, b"prompt"),
            max_input: TokenCount::new(100),
            max_output: TokenCount::new(tokens),
            prices: Prices {
                input: PricePerMillion::new(TokenAmount::ZERO),
                output: PricePerMillion::new(TokenAmount::new(1_000_000)),
            },
            // Long enough to be taken by a store that was just restored too.
            deadline: now.plus(Duration::from_secs(3_600)),
        };
        let owed = patron.owed.saturating_add(TokenAmount::new(u128::from(tokens)));
        // One increment ahead of what is billed, as clients sign it.
        let voucher = Voucher {
            channel: patron.channel,
            amount: owed.saturating_add(TokenAmount::new(50)),
        };
        ledger
            .accept_request(AcceptRequest {
                request: patron.signer.sign(&domain, request),
                content_salt: salt,
                voucher: Some(patron.signer.sign(&domain, voucher)),
                reserve: TokenAmount::new(u128::from(tokens)),
                exposure: ExposurePolicy::default(),
                now,
            })
            .await
            .wrap_err("accepting a request")?;
        let usage = Usage {
            input: TokenCount::new(7),
            output: TokenCount::new(tokens),
        };
        let bill = UsageBill::for_request(&request, usage, ContentHash::of(salt, b"response"), now)?;
        ledger.commit_bill(bill).await.wrap_err("committing a bill")?;
        patron.owed = owed;
        Ok(())
    }

    /// Has a patron ask for its close on the chain.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn request_close(&self, chain: &Chain, patron: usize) -> Result<()> {
        let patron = &self.patrons[patron];
        let request = ChannelEscrow::requestCloseCall {
            channelId: patron.channel.hash(),
        };
        send(&chain.anvil, patron.payer, self.escrow, &request).await
    }

    /// Has the payee settle what a patron owes, with the best voucher, without its executor.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn settle_elsewhere(&self, chain: &Chain, patron: usize) -> Result<()> {
        let patron = &self.patrons[patron];
        let voucher = Voucher {
            channel: patron.channel,
            amount: patron.owed,
        };
        let (voucher, signature) = patron.signer.sign(&self.deployment.domain(), voucher).into_parts();
        let settle = ChannelEscrow::settleCall {
            channelId: patron.channel.hash(),
            cumulativeAmount: voucher.amount.base_units(),
            signature: signature.to_bytes().to_vec().into(),
        };
        send(&chain.anvil, self.payee, self.escrow, &settle).await
    }

    /// What all patrons owe.
    pub fn dues(&self) -> Vec<Due> {
        let dues = self.patrons.iter().map(|patron| Due {
            channel: patron.channel,
            amount: patron.owed,
        });
        dues.collect()
    }

    /// Whether the chain has settled everything.
    ///
    /// # Errors
    /// When the chain doesn't answer.
    pub async fn is_paid(&self, chain: &Chain) -> Result<bool> {
        for patron in &self.patrons {
            if chain.money.settled(patron.channel).await? != patron.owed {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Sends from an account that anvil signs for, and waits for its block.
async fn send(anvil: &Anvil, from: Address, to: Address, call: &impl SolCall) -> Result<()> {
    anvil.call("anvil_impersonateAccount", json!([from])).await?;
    anvil.set_coins(from, U256::from(10).pow(U256::from(20))).await?;
    let data: alloy::primitives::Bytes = call.abi_encode().into();
    let transaction = json!([{ "from": from, "to": to, "data": data }]);
    let hash: B256 = serde_json::from_value(anvil.call("eth_sendTransaction", transaction).await?)?;
    let receipt = wait::until("a patron's transaction", || async {
        let receipt = anvil.call("eth_getTransactionReceipt", json!([hash])).await?;
        Ok((!receipt.is_null()).then_some(receipt))
    })
    .await?;
    ensure!(receipt["status"] == "0x1", "a patron's transaction was reverted");
    Ok(())
}
