// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {VoucherAmounts} from "../types/VoucherAmounts.sol";
import {IRelayedChannels} from "./IRelayedChannels.sol";

/// @title IChannelEscrow
/// @notice One-way payment channels in ERC-20 tokens, settled by cumulative vouchers.
/// @dev The core is the channel contract of the Machine Payments Protocol's "evm session" draft
/// (draft-evm-session-00, tempoxyz/mpp-specs): names, errors, channel id, EIP-712 domain and access rules.
/// Balances, claims of many channels and the settlement's entries stand beside it; what somebody else may submit on a
/// signature is in `IRelayedChannels`.
///
/// Where several errors apply, the one that comes first in the draft's section "Contract Errors" is raised.
///
/// Token assumptions: `transfer` and `transferFrom` move exactly the amount asked for, and balances change by
/// transfers alone. A token that charges a fee is refused when it is deposited (`UnexpectedDepositAmount`); a token
/// that rebases, or starts to charge later, can't be detected and must not be used.
interface IChannelEscrow is IRelayedChannels {
    /// @notice A channel as the draft's section "Channel State" lists it.
    struct Channel {
        address payer;
        address payee;
        address token;
        address authorizedSigner; // zero: the payer itself
        uint128 deposit; // base units, total ever deposited
        uint128 settled; // base units, cumulative
        uint64 closeRequestedAt; // Unix seconds, 0: not requested
        bool finalized; // sticky
        bool refundsToBalance; // what remains returns to the payer's balance, not to its wallet
    }

    /// @notice A row of `claimVouchers`: enough to recompute the channel's id, and a voucher for it.
    /// @dev The voucher is a ceiling: the row settles an amount of at most what it signs. The fields are in the order that
    /// gives the call one of the lowest selectors: functions are looked up in that order, and a claim is found 520 gas
    /// sooner.
    struct VoucherRow {
        address payer;
        bytes32 salt;
        address authorizedSigner; // as the channel was opened with: zero means the payer
        bytes32 r;
        bytes32 vs; // EIP-2098
        VoucherAmounts amounts; // what the voucher signs, and what the channel's `settled` becomes
    }

    /// @notice A row of `claimContractVouchers`: the same, with a signature of any length.
    struct ContractVoucherRow {
        address payer;
        bytes32 salt;
        address authorizedSigner; // as the channel was opened with: zero means the payer
        bytes signature;
        VoucherAmounts amounts; // what the voucher signs, and what the channel's `settled` becomes
    }

    /// @notice An entry of `ChannelsSettled`.
    struct SettledChannel {
        bytes32 channelId;
        uint128 settled; // base units, cumulative
    }

    /// @notice What the settlement contract asks to settle: its rows are verified there.
    struct Advance {
        bytes32 channelId;
        uint128 amount; // what the channel's `settled` becomes
    }

    /// @notice Why a row of a batch was passed over.
    enum SkipReason {
        ChannelNotFound,
        ChannelFinalized,
        AmountNotIncreasing,
        AmountExceedsDeposit,
        AmountExceedsVoucher,
        InvalidSignature,
        CloseNotReady
    }

    /// @notice `amount` of `token` came from `from` into the balance of `account`.
    event Deposited(address indexed account, address indexed token, address indexed from, uint256 amount);
    /// @notice `amount` of `token` left the balance of `account` for `to`.
    event BalanceWithdrawn(address indexed account, address indexed token, address indexed to, uint256 amount);
    /// @notice A payout whose transfer failed went to `account`'s balance instead.
    event PayoutCredited(address indexed account, address indexed token, uint256 amount);
    /// @notice `deposit` came from the payer's balance when `refundsToBalance`, otherwise from its wallet.
    event ChannelOpened(
        bytes32 indexed channelId,
        address indexed payer,
        address indexed payee,
        address token,
        address authorizedSigner,
        bytes32 salt,
        uint128 deposit,
        bool refundsToBalance
    );
    /// @notice `deposit` is the channel's new total. A pending close is cancelled when `closeCancelled`.
    event ChannelToppedUp(bytes32 indexed channelId, uint128 deposit, bool closeCancelled);
    /// @notice `settled` is the channel's new cumulative amount. What closing settles, `ChannelClosed` says.
    event ChannelSettled(bytes32 indexed channelId, uint128 settled);
    /// @notice The same of each channel that a claim by vouchers advanced, where it advanced several, in the order of its
    /// rows. Channels advanced by usage receipts have the settlement's `UsageSettled` or `UsagesSettled` instead: see
    /// `advanceChannels`.
    /// @dev One event a claim, because one a row would cost 870 gas more each.
    event ChannelsSettled(SettledChannel[] channels);
    /// @notice The payer may withdraw `CLOSE_GRACE_PERIOD` seconds after `requestedAt`.
    event CloseRequested(bytes32 indexed channelId, uint64 requestedAt);
    /// @notice The channel is final. `refunded` went to the payer's wallet, or to its balance when the channel
    /// `refundsToBalance` (a `PayoutCredited` follows when the wallet could not take it).
    event ChannelClosed(bytes32 indexed channelId, uint128 settled, uint128 refunded);
    /// @notice Row `index` of the call's rows was skipped. No proof that it is dead: only that it was, here and now.
    event RowSkipped(bytes32 indexed channelId, uint256 index, SkipReason reason);

    /// @notice A channel with these parameters exists, or existed.
    error ChannelAlreadyExists();
    error ChannelNotFound();
    error ChannelFinalized();
    error NotPayee();
    error NotPayer();
    /// @notice Not above what is already settled.
    error AmountNotIncreasing();
    error AmountExceedsDeposit();
    /// @notice Neither the signer's key nor its code says that it signed this.
    error InvalidSignature();
    /// @notice No close is pending, or its grace period still runs.
    error CloseNotReady();
    error ZeroDeposit();
    /// @notice A channel holds at most 2^128 - 1 base units.
    error DepositOverflow();
    /// @notice Payer zero.
    error InvalidPayer();
    /// @notice Payee zero or the escrow itself.
    error InvalidPayee();
    /// @notice Token zero or an address without code.
    error InvalidToken();
    /// @notice Account zero or the escrow itself: nobody could take the money out again.
    error InvalidRecipient();
    error InsufficientBalance(uint256 available, uint256 required);
    /// @notice The token moved another amount than was asked for: it charges a fee, or lies.
    error UnexpectedDepositAmount(uint256 expected, uint256 received);
    error NotSettlement();
    /// @notice The token refused a transfer: too little allowance or balance, a blocked account, a paused token.
    error TransferFailed();
    /// @notice Too little gas is left to hear a contract signer out: its silence would be no answer.
    error InsufficientGas();

    // --- The draft's mandatory core ---

    /// @notice Opens a channel with the caller's tokens. The caller becomes the payer.
    /// @dev Warning: an id is used once. The same parameters never open a second channel, not even after the first was
    /// closed: choose a new salt.
    /// Warning: `payee` alone can be paid from the channel, and what its vouchers allow can't be taken back.
    /// Warning: a payout or refund whose transfer fails is credited in the escrow, where only its owner can withdraw it: a
    /// contract as payer or payee must be able to call `withdrawBalance`, or may lose it.
    /// Warning: with a contract as signer (ERC-1271) a voucher is worth what that contract says when it is claimed, not
    /// when it was signed, and its operators can't close by it. Prefer a key.
    /// @param payee Who is paid. Not zero, not the escrow.
    /// @param token See the token assumptions above. The escrow must be allowed to take `deposit` of it.
    /// @param deposit Base units, not zero.
    /// @param salt Any value that makes the id new.
    /// @param authorizedSigner Who signs vouchers for the payer; zero: the payer itself.
    /// @custom:reverts ChannelAlreadyExists, ZeroDeposit, InvalidPayee, InvalidToken, TransferFailed,
    /// UnexpectedDepositAmount
    function open(address payee, address token, uint128 deposit, bytes32 salt, address authorizedSigner)
        external
        returns (bytes32 channelId);

    /// @notice Pays out what a voucher authorizes above what is settled. For the payee.
    /// @dev The signature is first taken for an ECDSA one, 65 bytes (`r`, `s`, `v` of 27 or 28) or 64 (EIP-2098), with
    /// `s` in the lower half; if the signer's key made it, that is final. Only otherwise is a signer that has code asked
    /// (ERC-1271), with 100,000 gas.
    /// @param cumulativeAmount Base units since the channel was opened: exactly what the voucher says.
    /// @custom:reverts ChannelNotFound, ChannelFinalized, NotPayee, AmountNotIncreasing, AmountExceedsDeposit,
    /// InvalidSignature, InsufficientGas, TransferFailed
    function settle(bytes32 channelId, uint128 cumulativeAmount, bytes calldata signature) external;

    /// @notice Adds the caller's tokens to its channel, and cancels a pending close.
    /// @custom:reverts ChannelNotFound, ChannelFinalized, NotPayer, ZeroDeposit, DepositOverflow, TransferFailed,
    /// UnexpectedDepositAmount
    function topUp(bytes32 channelId, uint128 additionalDeposit) external;

    /// @notice Settles a last voucher, pays the payee, refunds the payer and finalizes the channel. For the payee.
    /// A side whose transfer fails is credited in its balance.
    /// @dev Warning: can't be undone. With a `cumulativeAmount` not above what is settled, whatever vouchers would still
    /// have paid is forfeited, and the signature is not looked at.
    /// @custom:reverts ChannelNotFound, ChannelFinalized, NotPayee, AmountExceedsDeposit, InvalidSignature,
    /// InsufficientGas
    function close(bytes32 channelId, uint128 cumulativeAmount, bytes calldata signature) external;

    /// @notice Starts the grace period, in which the payee must claim. For the payer. Once it runs, asking again
    /// changes nothing.
    /// @custom:reverts ChannelNotFound, ChannelFinalized, NotPayer
    function requestClose(bytes32 channelId) external;

    /// @notice After the grace period, refunds what is not settled and finalizes the channel. For the payer. A refund
    /// whose transfer fails is credited in its balance.
    /// @dev Warning: a payee who has not claimed by now has lost what it did not claim. Until this call it still can.
    /// @custom:reverts ChannelNotFound, ChannelFinalized, NotPayer, CloseNotReady
    function withdraw(bytes32 channelId) external;

    // --- Balances ---

    /// @notice Moves the caller's tokens into its balance: money for channels yet to be opened.
    /// @dev Like every deposit, panics where the balance would pass 2^256 - 1: no honest token has so much.
    /// @custom:reverts ZeroDeposit, InvalidToken, TransferFailed, UnexpectedDepositAmount
    function deposit(address token, uint256 amount) external;

    /// @notice Moves the caller's tokens into the balance of `account`.
    /// @dev Warning: a gift. Nothing gives it back to the caller.
    /// @custom:reverts ZeroDeposit, InvalidRecipient, InvalidToken, TransferFailed, UnexpectedDepositAmount
    function depositFor(address account, address token, uint256 amount) external;

    /// @notice `deposit` with an EIP-2612 permit. A permit that somebody has submitted before does no harm: the
    /// allowance decides.
    /// @custom:reverts ZeroDeposit, InvalidToken, TransferFailed, UnexpectedDepositAmount
    function depositWithPermit(address token, uint256 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external;

    /// @notice Pays out of the caller's balance to `to`.
    /// @custom:reverts InvalidRecipient, InsufficientBalance, TransferFailed
    function withdrawBalance(address token, uint256 amount, address to) external;

    /// @notice `open` with money of the caller's balance. What remains returns there.
    /// @custom:reverts ChannelAlreadyExists, ZeroDeposit, InvalidPayee, InvalidToken, InsufficientBalance
    function openFromBalance(address payee, address token, uint128 amount, bytes32 salt, address authorizedSigner)
        external
        returns (bytes32 channelId);

    /// @notice `topUp` with money of the caller's balance. Where what remains returns to was fixed by opening.
    /// @custom:reverts ChannelNotFound, ChannelFinalized, NotPayer, ZeroDeposit, DepositOverflow, InsufficientBalance
    function topUpFromBalance(bytes32 channelId, uint128 additionalDeposit) external;

    // --- Claims ---

    /// @notice Settles many channels of one payee in one token by vouchers, and pays the sum in one transfer; if that
    /// fails, into the payee's balance. Anyone may call: the money can only go to the payee.
    /// @dev A row that can't be settled is skipped with `RowSkipped` and sinks nothing; the reasons are looked for in
    /// the order of `SkipReason`. A batch does what its rows would do one by one, in order: a channel that comes twice
    /// is settled twice, if its second amount is higher. Rows are signed by keys; contract signers have an entry of their
    /// own below.
    /// @return paid Base units of `token` paid (or credited) to `payee`.
    function claimVouchers(address payee, address token, VoucherRow[] calldata rows) external returns (uint256 paid);

    /// @notice `claimVouchers` of channels that contracts sign for; signatures are taken as `settle` takes them.
    /// @dev Warning: a contract may change its mind. A voucher that it has signed can be refused when it is claimed.
    /// @return paid Base units of `token` paid (or credited) to `payee`.
    /// @custom:reverts InsufficientGas when the gas left can't cover what a signer may use: its row is not skipped for that
    function claimContractVouchers(address payee, address token, ContractVoucherRow[] calldata rows)
        external
        returns (uint256 paid);

    // --- The settlement's narrow entry ---

    /// @notice `claimVouchers` without vouchers, for the settlement, which has verified receipts instead.
    /// @dev No `ChannelsSettled` of the rows that advance: the settlement publishes their usage, whose cumulative
    /// amounts are what the channels have settled.
    /// @dev Warning: trusts its caller entirely, whose code is fixed: that each row was authorized by the payer side, and
    /// that its channel is one of `payee` in `token`.
    /// @param rows A row with channel id zero is a gap, passed over in silence, so that the others keep their index.
    /// @return settledRows Bit `i % 256` of word `i / 256` is set when row `i` advanced its channel.
    /// @custom:reverts NotSettlement
    function advanceChannels(address payee, address token, Advance[] calldata rows)
        external
        returns (uint256[] memory settledRows);

    /// @notice `close` without a voucher, for the settlement.
    /// @dev Warning: trusts its caller entirely, as above. With an `amount` not above what is settled, nothing more is.
    /// @custom:reverts NotSettlement, ChannelNotFound, ChannelFinalized, AmountExceedsDeposit
    function closeChannel(bytes32 channelId, uint128 amount) external;

    // --- Views ---

    /// @return The channel, all zero when there is none: a channel that exists has a payer.
    function getChannel(bytes32 channelId) external view returns (Channel memory);

    /// @return The channels in the order of `channelIds`, each as `getChannel` gives it.
    function getChannelsBatch(bytes32[] calldata channelIds) external view returns (Channel[] memory);

    /// @return Base units of `token` that `account` can withdraw or open channels with.
    function balanceOf(address account, address token) external view returns (uint256);

    /// @return `keccak256(abi.encode(payer, payee, token, salt, authorizedSigner, escrow, chainId))`, whether or not
    /// such a channel exists.
    function computeChannelId(address payer, address payee, address token, bytes32 salt, address authorizedSigner)
        external
        view
        returns (bytes32);

    /// @return The EIP-712 digest of `Voucher(bytes32 channelId,uint128 cumulativeAmount)`.
    function getVoucherDigest(bytes32 channelId, uint128 cumulativeAmount) external view returns (bytes32);

    /// @return Of the domain `("EVM Payment Channel", "1", chainId, escrow)`.
    function domainSeparator() external view returns (bytes32);

    /// @return Seconds between `requestClose` and `withdraw`.
    function CLOSE_GRACE_PERIOD() external view returns (uint64);

    /// @return The settlement contract, which may advance and close channels.
    function SETTLEMENT() external view returns (address);
}
