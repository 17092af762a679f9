// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @title IExecutorRegistry
/// @notice Who signs for an executor, and what it loses when it cheats: the operators (hot keys) a payee names, the bond
/// it puts at stake, and the two faults that anyone can prove from signed documents alone.
///
/// @dev What a bond is worth. Read these before counting on one:
/// - Its token is the payee's choice. It may be worthless, or refuse the very transfers that would punish; the registry
///   vouches for none. A bond is worth what its reader thinks its token worth.
/// - What is being unbonded stays at stake for the delay only, and then leaves without notice. Count on
///   `amount - unbonding`.
/// - It secures what is signed while it stands. A fault of before may have been charged to a bond of dust that the payee
///   gave and sliced itself, and no fault is charged twice.
/// - A cheat risks at most half of it. Of every slice half reaches the channel's payer and the reporter, and a payee that
///   plays both, in a channel with itself, gets that half back. That never pays by itself, since the other half is
///   burned; but whoever expects to lose more than half his bond to others is better off so.
///
/// @dev What no proof covers: a model other than the one announced, an answer that is garbage or short, tokens counted
/// generously within the request's limits, a request accepted and never served, a request billed by two operators, once
/// each (the request names one of them: link no other's bill). Against those a client has its small
/// increment, its own count of tokens and its own score of the executor.
interface IExecutorRegistry {
    enum OperatorStatus {
        None,
        Active, // may sign bills, claim and close
        Retired // its signatures stay claimable; it may do nothing new
    }

    enum Fault {
        Overcharge,
        DoubleBill
    }

    /// @notice What a payee puts at stake.
    struct Bond {
        address token; // slot 0
        uint64 unbondableAt; // slot 0: Unix seconds, 0: no unbonding requested
        uint128 amount; // slot 1: base units, all of it at stake
        uint128 unbonding; // slot 1: base units, part of `amount`
    }

    /// @notice What is asked of which operator, at which prices and limits; an EIP-712 struct of the settlement's domain.
    struct InferenceRequest {
        bytes32 channelId;
        address operator;
        uint256 nonce;
        bytes32 model;
        bytes32 promptHash;
        uint32 maxInputTokens;
        uint32 maxOutputTokens;
        uint128 inputPrice; // base units per million tokens
        uint128 outputPrice;
        uint64 deadline; // Unix seconds
    }

    /// @notice What one inference used and costs; an EIP-712 struct of the settlement's domain.
    struct UsageBill {
        bytes32 channelId;
        bytes32 requestHash; // struct hash of the request
        bytes32 responseHash;
        uint32 inputTokens;
        uint32 outputTokens;
        uint128 amount; // base units
        uint64 completedAt; // Unix seconds
    }

    /// @notice `operator` speaks for `payee` from now on.
    event OperatorAdded(address indexed payee, address indexed operator);
    /// @notice `operator` may do nothing new for `payee`; what it signed stays claimable.
    event OperatorRetired(address indexed payee, address indexed operator);
    /// @notice `payee` put `amount` more of `token` at stake: now `total`.
    event Bonded(address indexed payee, address indexed token, uint128 amount, uint128 total);
    /// @notice `payee` may take `amount` out of its bond from `unbondableAt` on; both zero: it cancelled.
    event UnbondRequested(address indexed payee, uint128 amount, uint64 unbondableAt);
    /// @notice `amount` of `token` left the bond of `payee` for `payee`.
    event BondWithdrawn(address indexed payee, address indexed token, uint128 amount);
    /// @notice `payee` lost `slice` of its bond for a bill that `signer` signed. The channel names its payer.
    event FaultCharged(
        address indexed payee,
        bytes32 indexed channelId,
        address indexed reporter,
        bytes32 requestHash,
        Fault fault,
        address signer,
        address token,
        uint128 slice
    );
    /// @notice `token` would not be burned: `amount` of it stays here for ever, and is nobody's.
    event BurnRefused(address indexed token, uint256 amount);
    /// @notice `account` took `amount` of its shares of slices out to `to`.
    event Withdrawn(address indexed account, address indexed token, address indexed to, uint256 amount);

    /// @notice Zero is no operator.
    error InvalidOperator();
    error OperatorAlreadyActive();
    error OperatorNotActive();
    /// @notice Token zero or an address without code.
    error InvalidToken();
    error ZeroBond();
    /// @notice A bond has one token, this one, until nothing remains of it.
    error BondTokenFixed(address token);
    /// @notice A bond is at most 2^128 - 1 base units.
    error BondOverflow();
    error InsufficientBond(uint128 available, uint128 required);
    /// @notice Nothing is being unbonded, or its delay still runs.
    error UnbondNotReady();
    /// @notice The token moved another amount than was asked for: it charges a fee, or lies.
    error UnexpectedBondAmount(uint256 expected, uint256 received);
    /// @notice The token refused a transfer: too little allowance or balance, a blocked account, a paused token.
    error TransferFailed();
    /// @notice The bill is another request's, or another channel's than the request.
    error RequestMismatch();
    /// @notice The bill is within the request's limits and prices.
    error NotOvercharged();
    /// @notice The two bills are for different requests, or for different channels.
    error DifferentRequests();
    /// @notice One bill, sent twice.
    error SameBill();
    /// @notice Two keys signed: neither has signed two bills.
    error DifferentSigners();
    /// @notice No key made this signature.
    error InvalidSignature();
    error ChannelNotFound();
    /// @notice Whoever signed the bill is neither the payee nor an operator of its, active or retired within the delay.
    error NotPunishable(address signer);
    /// @notice A fault in the bills of this request has been charged, be it the other one.
    error AlreadyCharged();
    /// @notice The payee has no bond (now). The fault is not used up.
    error NothingAtStake();
    /// @notice Account zero or the registry itself: nobody could take the money out again.
    error InvalidRecipient();
    error NothingToWithdraw();

    // --- Operators ---

    /// @notice Names `operator` for the caller; a retired one becomes active again.
    /// @dev Warning: an active operator can close the caller's channels with less than their vouchers would pay. It can
    /// never redirect money of channels: that only goes to payee and payer.
    /// @dev Warning: whoever holds an operator's key can commit faults with it, as payer of a channel and reporter at
    /// once, until the bond is gone: half of it to himself, half burned. Retiring a stolen key does not end that before
    /// the delay has passed. Bond no more than the safety of your operators' keys deserves.
    /// @custom:reverts InvalidOperator, OperatorAlreadyActive
    function addOperator(address operator) external;

    /// @notice Retires `operator` of the caller.
    /// @dev Bills it has signed stay claimable for ever: the money only reaches the caller. Its faults stay punishable for
    /// `UNBONDING_DELAY`.
    /// @custom:reverts OperatorNotActive
    function removeOperator(address operator) external;

    // --- Bonds ---

    /// @notice Puts the caller's tokens at stake. No operator needs a bond; clients may prefer executors that have one.
    /// @dev Warning: faults of before that were not charged yet can be charged to it.
    /// @dev Warning: a token that rebases, or starts to charge fees later, can't be detected and must not be used: it is
    /// the last to withdraw who gets nothing.
    /// @param token Fixed until nothing remains of the bond. The registry must be allowed to take `amount` of it.
    /// @param amount Base units, not zero. What is being unbonded stays as it is.
    /// @custom:reverts ZeroBond, InvalidToken, BondTokenFixed, BondOverflow, TransferFailed, UnexpectedBondAmount
    function bond(address token, uint128 amount) external;

    /// @notice Starts the delay after which the caller may take `amount` out of its bond. Until it has taken it, all of
    /// the bond is at stake. Replaces an earlier request, whose delay is lost; zero cancels it.
    /// @custom:reverts InsufficientBond
    function requestUnbond(uint128 amount) external;

    /// @notice Pays the caller what it asked for, or what slices have left of it.
    /// @custom:reverts UnbondNotReady, TransferFailed
    function withdrawBond() external;

    // --- Faults ---
    //
    // Anyone may report. A fault costs the payee `SLICE_SHARE` of its bond, rounded up: of that `PAYER_SHARE` goes to the
    // channel's payer and `REPORTER_SHARE` to the caller, both rounded down, and the rest is burned. Somebody who copies a
    // report and comes first changes nothing but who gets the reporter's share. The bills of one request are charged
    // once, however many faults are in them.
    //
    // Signatures are made by keys: 65 bytes (`r`, `s`, `v` of 27 or 28) or 64 (EIP-2098), `s` in the lower half. What a
    // contract says of signatures (ERC-1271) can change after the fact and proves nothing.
    //
    // A bill counts by who signed it, not by whom the request names.

    /// @notice Charges the payee for a bill with more tokens than its request allows, or an amount above its prices.
    /// @dev The request needs no signature. An honest operator signs a bill only over the hash of a request it has read,
    /// and within it. A hash has one preimage: whoever shows it shows what the operator read, whoever wrote that. So a
    /// payer can't take a request back by not having signed it, and nobody can make one up for a bill that exists.
    /// @custom:reverts RequestMismatch, NotOvercharged, InvalidSignature, ChannelNotFound, NotPunishable, AlreadyCharged,
    /// NothingAtStake
    function proveOvercharge(InferenceRequest calldata request, UsageBill calldata bill, bytes calldata billSignature)
        external;

    /// @notice Charges the payee for two different bills of one signer for one request.
    /// @dev An honest operator signs one bill a request and sends that again. One bill with two valid signatures is one
    /// bill; bills are compared by struct hash.
    /// @custom:reverts DifferentRequests, SameBill, InvalidSignature, DifferentSigners, ChannelNotFound, NotPunishable,
    /// AlreadyCharged, NothingAtStake
    function proveDoubleBill(
        UsageBill calldata first,
        bytes calldata firstSignature,
        UsageBill calldata second,
        bytes calldata secondSignature
    ) external;

    /// @notice Pays out all of the caller's shares of slices in `token` to `to`.
    /// @custom:reverts InvalidRecipient, NothingToWithdraw, TransferFailed
    function withdraw(address token, address to) external;

    // --- Views ---

    /// @return What `operator` is to `payee`. A payee need not be its own operator.
    function operatorStatus(address payee, address operator) external view returns (OperatorStatus);

    /// @return Unix seconds when `operator` was retired; zero unless it is.
    function retiredAt(address payee, address operator) external view returns (uint40);

    /// @return The bond, all zero when there is none: a bond that exists has an amount.
    function bondOf(address payee) external view returns (Bond memory);

    /// @return Base units of `token` that `account` can withdraw as its shares of slices.
    function withdrawableOf(address account, address token) external view returns (uint256);

    /// @return Whether a fault in the bills of this request has been charged.
    function isCharged(bytes32 channelId, bytes32 requestHash) external view returns (bool);

    /// @return Seconds between `requestUnbond` and `withdrawBond`, and between `removeOperator` and impunity.
    function UNBONDING_DELAY() external view returns (uint64);

    /// @return Basis points of the bond that a fault costs.
    function SLICE_SHARE() external view returns (uint256);

    /// @return Basis points of a slice that the channel's payer gets.
    function PAYER_SHARE() external view returns (uint256);

    /// @return Basis points of a slice that the reporter gets.
    function REPORTER_SHARE() external view returns (uint256);

    /// @return The escrow that knows a channel's payer and payee.
    function ESCROW() external view returns (address);

    /// @return The settlement in whose domain bills are signed.
    function SETTLEMENT() external view returns (address);
}
