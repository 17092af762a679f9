// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @title IChannelEscrow
/// @notice One-way payment channels in ERC-20 tokens, settled by cumulative vouchers.
/// @dev The core is the channel contract of the Machine Payments Protocol's "evm session" draft
/// (draft-evm-session-00, tempoxyz/mpp-specs): names, errors, channel id, EIP-712 domain and access rules.
/// Balances, `claimVouchers` and the settlement's entries stand beside it.
///
/// Token assumptions: `transfer` and `transferFrom` move exactly the amount asked for, and balances change by
/// transfers alone. A token that charges a fee is refused when it is deposited (`UnexpectedDepositAmount`); a token
/// that rebases, or starts to charge later, can't be detected and must not be used.
interface IChannelEscrow {
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
    /// @dev The voucher is a ceiling: the row settles `amount`, at most the signed `cumulativeAmount`.
    struct VoucherRow {
        address payer;
        address authorizedSigner; // as the channel was opened with: zero means the payer
        bytes32 salt;
        uint128 cumulativeAmount; // what the voucher signs
        uint128 amount; // what the channel's `settled` becomes
        bytes32 r;
        bytes32 vs; // EIP-2098
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
        InvalidSignature
    }

    event Deposited(address indexed account, address indexed token, address indexed from, uint256 amount);
    event BalanceWithdrawn(address indexed account, address indexed token, address indexed to, uint256 amount);
    /// @notice A payout whose transfer failed went to `account`'s balance instead.
    event PayoutCredited(address indexed account, address indexed token, uint256 amount);
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
    /// @notice `settled` is the channel's new cumulative amount.
    event ChannelSettled(bytes32 indexed channelId, uint128 settled);
    event CloseRequested(bytes32 indexed channelId, uint64 requestedAt);
    event ChannelClosed(bytes32 indexed channelId, uint128 settled, uint128 refunded);
    /// @notice Row `index` of the call's rows was skipped. No proof that it is dead: only that it was, here and now.
    event RowSkipped(bytes32 indexed channelId, uint256 index, SkipReason reason);

    error ChannelAlreadyExists();
    error ChannelNotFound();
    error ChannelFinalized();
    error NotPayee();
    error NotPayer();
    error AmountNotIncreasing();
    error AmountExceedsDeposit();
    error InvalidSignature();
    error CloseNotReady();
    error ZeroDeposit();
    error DepositOverflow();
    /// @notice Payee zero or the escrow itself.
    error InvalidPayee();
    /// @notice Token zero or an address without code.
    error InvalidToken();
    error InvalidRecipient();
    error InsufficientBalance(uint256 available, uint256 required);
    /// @notice The token moved another amount than was asked for: it charges a fee, or lies.
    error UnexpectedDepositAmount(uint256 expected, uint256 received);
    error NotSettlement();
    error TransferFailed();
    /// @notice Too little gas is left to hear a contract signer out: its silence would be no answer.
    error InsufficientGas();

    // --- The draft's mandatory core ---

    function open(address payee, address token, uint128 deposit, bytes32 salt, address authorizedSigner)
        external
        returns (bytes32 channelId);
    function settle(bytes32 channelId, uint128 cumulativeAmount, bytes calldata signature) external;
    function topUp(bytes32 channelId, uint128 additionalDeposit) external;
    function close(bytes32 channelId, uint128 cumulativeAmount, bytes calldata signature) external;
    function requestClose(bytes32 channelId) external;
    function withdraw(bytes32 channelId) external;

    // --- Balances ---

    function deposit(address token, uint256 amount) external;
    function depositFor(address account, address token, uint256 amount) external;
    function depositWithPermit(address token, uint256 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external;
    function withdrawBalance(address token, uint256 amount, address to) external;
    function openFromBalance(address payee, address token, uint128 amount, bytes32 salt, address authorizedSigner)
        external
        returns (bytes32 channelId);
    function topUpFromBalance(bytes32 channelId, uint128 additionalDeposit) external;

    // --- Claims ---

    /// @return paid Base units of `token` paid (or credited) to `payee`.
    function claimVouchers(address payee, address token, VoucherRow[] calldata rows) external returns (uint256 paid);

    // --- The settlement's narrow entry ---

    /// @return settledRows Bit `i % 256` of word `i / 256` is set when row `i` advanced its channel.
    function advanceChannels(address payee, address token, Advance[] calldata rows)
        external
        returns (uint256[] memory settledRows);
    function closeChannel(bytes32 channelId, uint128 amount) external;

    // --- Views ---

    function getChannel(bytes32 channelId) external view returns (Channel memory);
    function getChannelsBatch(bytes32[] calldata channelIds) external view returns (Channel[] memory);
    function balanceOf(address account, address token) external view returns (uint256);
    function computeChannelId(address payer, address payee, address token, bytes32 salt, address authorizedSigner)
        external
        view
        returns (bytes32);
    function getVoucherDigest(bytes32 channelId, uint128 cumulativeAmount) external view returns (bytes32);
    function domainSeparator() external view returns (bytes32);
    function CLOSE_GRACE_PERIOD() external view returns (uint64);
    function SETTLEMENT() external view returns (address);
}
