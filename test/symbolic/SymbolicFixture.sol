// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {PlainToken} from "./PlainToken.sol";
import {both, either} from "./Truth.sol";
import {Test} from "forge-std/Test.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";

/// @notice The cheatcodes of halmos that are used here.
interface SymbolicVm {
    function enableSymbolicStorage(address account) external;
    function createAddress(string calldata name) external pure returns (address);
    function createBytes(uint256 size, string calldata name) external pure returns (bytes memory);
    function createUint(uint256 bits, string calldata name) external pure returns (uint256);
    function createBytes32(string calldata name) external pure returns (bytes32);
}

/// @notice An escrow and a token in an arbitrary state, and all that one call may change.
///
/// A proof by induction over calls. Of the state before a call is assumed only what is shown of the state after it:
/// 1. a channel has a payer and `settled <= deposit`, or it is not there, and empty;
/// 2. the escrow is neither payer nor payee of a channel.
///
/// Shown besides, for the channel and the accounts that the call names:
/// 3. the escrow's holdings change by exactly as much as what it owes: balances, and deposits not yet settled;
/// 4. `settled` never falls, and a finalized channel stays as it is;
/// 5. any other channel, and any other balance in any token, is untouched.
abstract contract SymbolicFixture is Test {
    SymbolicVm internal constant SVM = SymbolicVm(address(uint160(uint256(keccak256("svm cheat code")))));

    /// @dev Whom a call may concern. Any of them may be the same.
    struct Roles {
        address payer;
        address payee;
        address third;
    }

    struct State {
        IChannelEscrow.Channel channel;
        uint256 owed;
        uint256 held;
        Rest other;
        bytes32 rest;
    }

    /// @dev Any channel and any balance that the call does not name.
    struct Rest {
        bytes32 id;
        address account;
        address token;
    }

    IChannelEscrow internal escrow;
    PlainToken internal token;

    function setUp() public {
        token = new PlainToken();
        escrow = IChannelEscrow(deployCode("ChannelEscrow.sol:ChannelEscrow", abi.encode(address(this))));
        vm.warp(SVM.createUint(40, "now"));
        SVM.enableSymbolicStorage(address(token));
        SVM.enableSymbolicStorage(address(escrow));
    }

    // --- What is assumed ---

    /// @dev Whatever channel has this id: open, finalized, or not there at all. If it is, its token is `token`.
    function assumeChannel(bytes32 id) internal view returns (IChannelEscrow.Channel memory channel) {
        channel = escrow.getChannel(id);
        bool inToken = either(channel.payer == address(0), channel.token == address(token));
        vm.assume(both(isSound(channel), inToken));
    }

    /// @dev Zero never calls, nor does the escrow call itself.
    function assumeCaller() internal view returns (address caller) {
        caller = SVM.createAddress("caller");
        vm.assume(both(caller != address(0), caller != address(escrow)));
    }

    function isSound(IChannelEscrow.Channel memory channel) private view returns (bool) {
        bool isNone = channel.payer == address(0);
        bool isEmpty = both(both(channel.deposit == 0, channel.settled == 0), !channel.finalized);
        bool isOthers = both(channel.payer != address(escrow), channel.payee != address(escrow));
        return either(both(isNone, isEmpty), both(!isNone, both(isOthers, channel.settled <= channel.deposit)));
    }

    // --- What is shown ---

    function observe(bytes32 id, Roles memory roles) internal view returns (State memory) {
        Rest memory other = Rest(
            SVM.createBytes32("other channel"), SVM.createAddress("other account"), SVM.createAddress("other token")
        );
        bool isThird = other.account == roles.third;
        bool isNamed = either(isThird, either(other.account == roles.payer, other.account == roles.payee));
        vm.assume(both(other.id != id, either(other.token != address(token), !isNamed)));
        return observe(id, roles, other);
    }

    /// @dev Before one call that names a channel and, at most, one account that is no side of it.
    function start(bytes32 id, address third) internal view returns (Roles memory roles, State memory before) {
        IChannelEscrow.Channel memory channel = assumeChannel(id);
        roles = Roles(channel.payer, channel.payee, third);
        before = observe(id, roles);
    }

    /// @dev After one call.
    function assertStep(State memory before, bytes32 id, Roles memory roles) internal view {
        State memory afterwards = observe(id, roles, before.other);
        IChannelEscrow.Channel memory channel = afterwards.channel;
        bool isSolvent;
        unchecked {
            isSolvent = afterwards.held - before.held == afterwards.owed - before.owed;
        }
        assert(isSolvent);
        bool isMonotone = channel.settled >= before.channel.settled;
        bool isFinal = either(!before.channel.finalized, hashOf(channel) == hashOf(before.channel));
        assert(both(isSound(channel), both(isMonotone, isFinal)));
        assert(afterwards.rest == before.rest);
    }

    function observe(bytes32 id, Roles memory roles, Rest memory other) private view returns (State memory state) {
        state.channel = escrow.getChannel(id);
        state.owed = owed(state.channel, roles);
        state.held = token.balanceOf(address(escrow));
        state.other = other;
        IChannelEscrow.Channel memory otherChannel = escrow.getChannel(other.id);
        // Looked up in a list, of which only `OpenTest` knows that it grows and never changes.
        otherChannel.token = address(0);
        state.rest = keccak256(abi.encode(otherChannel, escrow.balanceOf(other.account, other.token)));
    }

    /// @dev What the escrow owes in `token`, as far as one call can change it. Modulo 2^256: nobody's money comes near,
    /// but this storage is arbitrary. With jumps: a solver compares plain sums at once, and sums of choices never.
    function owed(IChannelEscrow.Channel memory channel, Roles memory roles) private view returns (uint256 sum) {
        (address payer, address payee, address third) = (roles.payer, roles.payee, roles.third);
        unchecked {
            sum = escrow.balanceOf(payer, address(token));
            if (payee != payer) sum += escrow.balanceOf(payee, address(token));
            if (third != payer && third != payee) sum += escrow.balanceOf(third, address(token));
            if (!channel.finalized) sum += channel.deposit - channel.settled;
        }
    }

    function hashOf(IChannelEscrow.Channel memory channel) private pure returns (bytes32) {
        return keccak256(abi.encode(channel));
    }
}
