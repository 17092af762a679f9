// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @title IRelayedChannels
/// @notice The escrow's entry points that anyone may call, because a signature says that somebody wants it: who signs
/// needs no gas, and who submits gains no power.
/// @dev Six of them are the relayed profile of the draft (section "Relayed / Gasless Operations Profile"). Grants, plain
/// deposits and the payer's way out stand beside them. EIP-712 types of the escrow's domain:
/// `SettleAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)`
/// `CloseAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)`
/// `RequestCloseAuthorization(bytes32 channelId,uint256 nonce,uint256 deadline)`
/// `ChannelGrant(address payer,address payee,address token,uint128 deposit,bytes32 salt,address authorizedSigner,uint64 deadline)`
/// `TopUpGrant(bytes32 channelId,uint128 deposit,uint64 deadline)`
///
/// Signatures of these are taken as `settle` takes vouchers: a key's first, and only where none matches that of a
/// contract (ERC-1271). Errors that are not declared here are the escrow's (`IChannelEscrow`).
///
/// Who submits first changes nothing: the same channel comes of it, the same payment, the same close. Whoever comes
/// second is refused, by the state that the first has left (`ChannelAlreadyExists`, `AmountNotIncreasing`,
/// `ChannelFinalized`, `ZeroDeposit`), by `NonceAlreadyUsed`, or by the token or Permit2, and reads what is there.
///
/// Warning: what is signed can be submitted until its deadline, by anyone who has seen it, at the moment they choose. A
/// top-up that is still out cancels a close, and a close authorization forfeits what came after it. Keep deadlines short;
/// `invalidateNonce`, the token's `cancelAuthorization` and Permit2's own way take back what was not submitted.
interface IRelayedChannels {
    /// @notice A payer's word that a channel may be opened with money of its balance.
    struct ChannelGrant {
        address payer;
        address payee;
        address token;
        uint128 deposit; // base units
        bytes32 salt;
        address authorizedSigner; // zero: the payer itself
        uint64 deadline; // Unix seconds
    }

    /// @notice A payer's word that a channel's deposit may be raised with money of its balance.
    /// @dev Cumulative like a voucher: `deposit` is what the total becomes, so that the same grant can't be used twice, and
    /// of two grants the higher one holds in whichever order they come.
    struct TopUpGrant {
        bytes32 channelId;
        uint128 deposit; // base units, the channel's new total
        uint64 deadline; // Unix seconds
    }

    /// @notice The EIP-3009 nonce is not the one derived from what the money is for.
    error NonceMismatch();
    /// @notice This authorization, or another one with its nonce, was used.
    error NonceAlreadyUsed();
    /// @notice The deadline has passed.
    error AuthorizationExpired();
    /// @notice There is no code at `PERMIT2` on this chain.
    error Permit2NotDeployed();

    // --- The draft's relayed profile: funded by the payer ---

    /// @notice `open` for `from`, with its tokens, on its EIP-3009 signature. Refunds go to its wallet.
    /// @dev The token must have USDC's overload of `receiveWithAuthorization` with the signature as bytes.
    /// @param nonce `keccak256(abi.encode(from, payee, token, salt, authorizedSigner))`, which binds the signature, that
    /// knows nothing of channels, to this one.
    /// @custom:reverts ChannelAlreadyExists, NonceMismatch, ZeroDeposit, InvalidPayer, InvalidPayee, InvalidToken,
    /// UnexpectedDepositAmount, and what the token says when it refuses the authorization
    function openWithAuthorization(
        address payee,
        address token,
        uint128 deposit,
        bytes32 salt,
        address authorizedSigner,
        address from,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external returns (bytes32 channelId);

    /// @notice Adds tokens of `from` to a channel, on its EIP-3009 signature.
    /// @dev Cancels a pending close only when `from` is the channel's payer: anybody else could hold the payer's money
    /// hostage with dust. A gift of somebody else's is refunded to the payer like the rest.
    /// @param nonce `keccak256(abi.encode(channelId, additionalDeposit, from, topUpSalt))`.
    /// @custom:reverts ChannelNotFound, ChannelFinalized, NonceMismatch, ZeroDeposit, DepositOverflow,
    /// UnexpectedDepositAmount, and what the token says when it refuses the authorization
    function topUpWithAuthorization(
        bytes32 channelId,
        uint128 additionalDeposit,
        address from,
        bytes32 topUpSalt,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external;

    /// @notice `open` for `from`, with its tokens, on its Permit2 signature. Refunds go to its wallet.
    /// @dev The witness is `ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)`: the wallet shows what
    /// is signed, and Permit2 refuses any other channel.
    /// Warning: Permit2 asks an account that has code by its code alone, and so a delegated account (EIP-7702) can disown on
    /// this way what its key has signed.
    /// @param nonce Permit2's, any unused one.
    /// @custom:reverts ChannelAlreadyExists, ZeroDeposit, InvalidPayer, InvalidPayee, InvalidToken, Permit2NotDeployed,
    /// UnexpectedDepositAmount, and what Permit2 says when it refuses
    function openWithPermit2(
        address payee,
        address token,
        uint128 deposit,
        bytes32 salt,
        address authorizedSigner,
        address from,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external returns (bytes32 channelId);

    /// @notice Adds tokens of `from` to a channel, on its Permit2 signature.
    /// @dev The witness is `ChannelTopUpWitness(bytes32 channelId)`. A pending close is cancelled as by
    /// `topUpWithAuthorization`.
    /// @custom:reverts ChannelNotFound, ChannelFinalized, ZeroDeposit, DepositOverflow, Permit2NotDeployed,
    /// UnexpectedDepositAmount, and what Permit2 says when it refuses
    function topUpWithPermit2(
        bytes32 channelId,
        uint128 additionalDeposit,
        address from,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external;

    // --- The draft's relayed profile: on the payee's signature ---

    /// @notice `settle` on the payee's signature over a `SettleAuthorization`.
    /// @param nonce Any that the payee has not used for this channel, be it to settle or to close.
    /// @param deadline Unix seconds, the last at which this is taken.
    /// @custom:reverts ChannelNotFound, ChannelFinalized, AmountNotIncreasing, AmountExceedsDeposit, InvalidSignature (either),
    /// InsufficientGas, NonceAlreadyUsed, AuthorizationExpired, TransferFailed
    function settleWithAuthorization(
        bytes32 channelId,
        uint128 cumulativeAmount,
        uint256 nonce,
        uint256 deadline,
        bytes calldata payeeSignature,
        bytes calldata voucherSignature
    ) external;

    /// @notice `close` on the payee's signature over a `CloseAuthorization`.
    /// @dev Warning: can't be undone, and forfeits like `close`: with a `cumulativeAmount` not above what is settled when this
    /// is submitted, no voucher is looked at.
    /// @custom:reverts ChannelNotFound, ChannelFinalized, AmountExceedsDeposit, InvalidSignature (either), InsufficientGas,
    /// NonceAlreadyUsed, AuthorizationExpired
    function closeWithAuthorization(
        bytes32 channelId,
        uint128 cumulativeAmount,
        uint256 nonce,
        uint256 deadline,
        bytes calldata payeeSignature,
        bytes calldata voucherSignature
    ) external;

    // --- Balances ---

    /// @notice Moves tokens of `from` into its balance, on its EIP-3009 signature.
    /// @param nonce `keccak256(abi.encode(from, token, depositSalt))`: a signature for a channel is none for this.
    /// @custom:reverts NonceMismatch, ZeroDeposit, InvalidRecipient, InvalidToken, UnexpectedDepositAmount, and what the
    /// token says when it refuses the authorization
    function depositWithAuthorization(
        address token,
        uint256 amount,
        address from,
        bytes32 depositSalt,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external;

    /// @notice `openFromBalance` for the payer, on its signature over the grant.
    /// @custom:reverts ChannelAlreadyExists, InvalidSignature, InsufficientGas, AuthorizationExpired, ZeroDeposit,
    /// InvalidPayee, InvalidToken, InsufficientBalance
    function openWithGrant(ChannelGrant calldata grant, bytes calldata signature) external returns (bytes32 channelId);

    /// @notice `topUpFromBalance` for the payer, up to the grant's total, on its signature. Cancels a pending close: the
    /// payer itself funds it.
    /// @dev Warning: a payer who wants to leave a channel while its grants are out waits for their deadlines, or expects
    /// to ask again.
    /// @custom:reverts ChannelNotFound, ChannelFinalized, InvalidSignature, InsufficientGas, AuthorizationExpired,
    /// ZeroDeposit (the deposit is as high already), InsufficientBalance
    function topUpWithGrant(TopUpGrant calldata grant, bytes calldata signature) external;

    // --- The payer's way out ---

    /// @notice `requestClose` on the payer's signature over a `RequestCloseAuthorization`.
    /// @param nonce Any that the payer has not used for this channel.
    /// @param deadline Unix seconds, the last at which this is taken.
    /// @custom:reverts ChannelNotFound, ChannelFinalized, InvalidSignature, InsufficientGas, NonceAlreadyUsed,
    /// AuthorizationExpired
    function requestCloseWithAuthorization(bytes32 channelId, uint256 nonce, uint256 deadline, bytes calldata signature)
        external;

    /// @notice `withdraw` for the payers of many channels; each is paid as if it had called. A channel whose time has not
    /// come is skipped with `RowSkipped` and sinks nothing.
    /// @dev Warning: a channel in a hostile token can sink the call, by burning its gas or by a refund that no balance can
    /// hold. Choose the channels.
    function withdrawFor(bytes32[] calldata channelIds) external;

    // --- Taking back ---

    /// @notice Uses up a nonce of the caller's for a channel, so that no authorization with it can be submitted any more.
    /// @custom:reverts NonceAlreadyUsed: too late, or done before
    function invalidateNonce(bytes32 channelId, uint256 nonce) external;

    // --- Views ---

    /// @return Whether `account`, a channel's payee or payer, has used `nonce` for that channel, or taken it back.
    function isNonceUsed(address account, bytes32 channelId, uint256 nonce) external view returns (bool);

    /// @return The canonical deployment of Permit2, whether or not this chain has it.
    function PERMIT2() external view returns (address);
}
