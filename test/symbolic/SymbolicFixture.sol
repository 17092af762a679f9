// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {PlainPermit2, PlainToken} from "./PlainToken.sol";
import {both, either, where} from "./Truth.sol";
import {Test} from "forge-std/Test.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";

/// @notice The cheatcodes of halmos that are used here.
interface SymbolicVm {
    function enableSymbolicStorage(address account) external;
    function createAddress(string calldata name) external pure returns (address);
    function createBool(string calldata name) external pure returns (bool);
    function createBytes(uint256 size, string calldata name) external pure returns (bytes memory);
    function createUint(uint256 bits, string calldata name) external pure returns (uint256);
    function createBytes32(string calldata name) external pure returns (bytes32);
}

/// @notice An escrow and a token in an arbitrary state, and all that one call may change.
///
/// A proof by induction over calls. Of the state before a call is assumed only what is shown of the state after it:
/// 1. a channel has a payer, `settled <= deposit` and an entry in the list of destinations, or it is not there, and empty;
/// 2. the escrow is neither payer nor payee of a channel.
///
/// Shown besides, for the channel and the accounts that the call names:
/// 3. the escrow's holdings change by exactly as much as what it owes: balances, and deposits not yet settled;
/// 4. `settled` never falls, and a finalized channel stays as it is;
/// 5. any other channel, any other balance in any token, and what is in the list of destinations are untouched.
///
/// Names are examples: accounts, tokens, channel ids and indices of the list, of which the escrow asks only whether two are
/// the same. Every way in which accounts of a call can be the same has its path. All else is arbitrary: amounts, times,
/// flags, signatures, balances, holdings, and what the token does. So a solver is left with arithmetic.
abstract contract SymbolicFixture is Test {
    SymbolicVm internal constant SVM = SymbolicVm(address(uint160(uint256(keccak256("svm cheat code")))));

    bytes32 internal constant ID = keccak256("channel");
    bytes32 internal constant SALT = keccak256("salt");
    address internal constant FIRST = address(uint160(uint256(keccak256("first"))));
    address internal constant SECOND = address(uint160(uint256(keccak256("second"))));
    address internal constant THIRD = address(uint160(uint256(keccak256("third"))));
    uint256 private constant DESTINATION = 5;

    // What no call names.
    bytes32 private constant OTHER_ID = keccak256("other channel");
    address private constant OTHER_ACCOUNT = address(uint160(uint256(keccak256("other account"))));
    address private constant OTHER_TOKEN = address(uint160(uint256(keccak256("other token"))));
    uint256 private constant OTHER_DESTINATION = 3;

    // The escrow's storage.
    uint256 private constant DESTINATION_INDEX = 1;
    uint256 private constant DESTINATIONS = 2;
    uint256 private constant DESTINATION_COUNT = 3;
    uint256 private constant CHANNELS = 4;

    struct State {
        IChannelEscrow.Channel channel;
        uint256 owed;
        uint256 held;
        uint256 destinations;
        bytes32 rest;
    }

    IChannelEscrow internal escrow;
    PlainToken internal token;

    function setUp() public {
        token = new PlainToken();
        escrow = IChannelEscrow(deployCode("ChannelEscrow.sol:ChannelEscrow", abi.encode(address(this))));
        vm.etch(escrow.PERMIT2(), address(new PlainPermit2()).code);
        vm.warp(SVM.createUint(40, "now"));
        SVM.enableSymbolicStorage(address(token));
        SVM.enableSymbolicStorage(address(escrow));
        vm.assume(destinationCount() >= DESTINATION);
    }

    // --- What is assumed ---

    /// @dev One that may call.
    function anyAccount(string memory name) internal pure returns (address) {
        uint256 choice = SVM.createUint(8, name);
        if (choice == 0) return FIRST;
        if (choice == 1) return SECOND;
        return THIRD;
    }

    /// @dev One that somebody may write into a call.
    function anyAddress(string memory name) internal view returns (address) {
        uint256 choice = SVM.createUint(8, name);
        if (choice == 0) return FIRST;
        if (choice == 1) return SECOND;
        if (choice == 2) return THIRD;
        if (choice == 3) return address(escrow);
        return address(0);
    }

    /// @dev Who signs for a channel: an account, or, where there is none, the payer.
    function anySigner() internal pure returns (address) {
        return SVM.createBool("has a signer") ? THIRD : address(0);
    }

    /// @dev Puts a channel under this id: open, finalized, or none at all. If there is one, its token is `token`, its
    /// payer the first account, its payee the first or second, and its signer, if it has one, the third.
    function assumeChannel(bytes32 id) internal {
        if (SVM.createBool("no channel")) assumeNoChannel(id);
        else assumeChannelExists(id);
    }

    function assumeNoChannel(bytes32 id) internal {
        putChannel(id, 0, 0, 0);
    }

    function assumeChannelExists(bytes32 id) internal {
        putEntry(DESTINATION, SVM.createBool("pays itself") ? FIRST : SECOND, address(token));
        putRecord(id, true);
    }

    /// @dev As `assumeChannel`, without its entry in the list of destinations, and on one path.
    function assumeRecord(bytes32 id) internal {
        putRecord(id, SVM.createBool("channel"));
    }

    function putRecord(bytes32 id, bool exists) private {
        (uint256 lower, uint256 upper) = (SVM.createUint(128, "lower"), SVM.createUint(128, "upper"));
        // Finalized, refunds to balance, has a signer.
        (uint256 flags, uint256 closeRequestedAt) = (SVM.createUint(3, "flags"), SVM.createUint(40, "close requested"));
        bool isFinalized = flags & 1 != 0;
        vm.assume(either(both(!isFinalized, lower <= upper), both(isFinalized, upper <= lower)));
        uint256 terms = DESTINATION << 208 | flags << 200 | closeRequestedAt << 160 | uint160(FIRST);
        putChannel(id, where(exists, lower << 128 | upper), where(exists, terms), where(exists, uint160(THIRD)));
    }

    /// @dev Whether the list knows a payee of `token` is arbitrary. It knows neither zero nor the escrow.
    function assumeListed(address payee) internal {
        bool mayBe = payee != address(0) && payee != address(escrow);
        bool isIt = mayBe && SVM.createBool("is listed");
        if (isIt) putEntry(DESTINATION, payee, address(token));
        put(slotOfPair(payee, address(token)), 0, isIt ? DESTINATION : 0);
    }

    // --- What is shown ---

    /// @dev After one call.
    function assertStep(State memory before, bytes32 id) internal view {
        State memory afterwards = observe(id);
        IChannelEscrow.Channel memory channel = afterwards.channel;
        bool isSolvent;
        unchecked {
            isSolvent = afterwards.held - before.held == afterwards.owed - before.owed;
        }
        assert(isSolvent);
        assert(both(isSound(id, channel), channel.settled >= before.channel.settled));
        assert(either(!before.channel.finalized, hashOf(channel) == hashOf(before.channel)));
        assert(both(afterwards.rest == before.rest, afterwards.destinations >= before.destinations));
    }

    function isSound(bytes32 id, IChannelEscrow.Channel memory channel) private view returns (bool) {
        bool isNone = channel.payer == address(0);
        bool isEmpty = both(both(channel.deposit == 0, channel.settled == 0), !channel.finalized);
        bool isOthers = both(channel.payer != address(escrow), channel.payee != address(escrow));
        uint256 destination = uint40(wordOf(slotOf(id, CHANNELS), 1) >> 208);
        bool hasEntry = both(destination != 0, destination <= destinationCount());
        bool isWhole = both(isOthers, both(hasEntry, channel.settled <= channel.deposit));
        return either(both(isNone, isEmpty), both(!isNone, isWhole));
    }

    /// @dev What one call may change that names this channel, `token` and no accounts but the three.
    function observe(bytes32 id) internal view returns (State memory state) {
        state.channel = escrow.getChannel(id);
        state.owed = owed(state.channel);
        state.held = token.held();
        state.destinations = destinationCount();
        bytes32 channel = slotOf(OTHER_ID, CHANNELS);
        bytes32 entry = slotOfEntry(OTHER_DESTINATION);
        bytes memory words = abi.encode(wordOf(channel, 0), wordOf(channel, 1), wordOf(channel, 2));
        words = abi.encodePacked(words, wordOf(entry, 0), wordOf(entry, 1));
        words = abi.encodePacked(words, pairOf(OTHER_ACCOUNT, address(token)), pairOf(FIRST, OTHER_TOKEN));
        state.rest = keccak256(words);
    }

    /// @dev What an account has in a token, and that pair's index in the list.
    function pairOf(address account, address token_) private view returns (bytes memory) {
        return abi.encode(escrow.balanceOf(account, token_), wordOf(slotOfPair(account, token_), 0));
    }

    /// @dev What the escrow owes in `token`, as far as one call can change it. Modulo 2^256: nobody's money comes near,
    /// but this storage is arbitrary.
    function owed(IChannelEscrow.Channel memory channel) private view returns (uint256 sum) {
        unchecked {
            sum = escrow.balanceOf(FIRST, address(token)) + escrow.balanceOf(SECOND, address(token))
                + escrow.balanceOf(THIRD, address(token));
            // With a jump: a solver compares plain sums at once, and sums of choices never.
            if (!channel.finalized) sum += channel.deposit - channel.settled;
        }
    }

    /// @dev Above its type, what a slot holds is arbitrary here.
    function isListed(address payee) internal view returns (bool) {
        uint256 index = uint40(wordOf(slotOfPair(payee, address(token)), 0));
        bytes32 entry = slotOfEntry(index);
        (uint256 first, uint256 second) = (wordOf(entry, 0), wordOf(entry, 1));
        bool isPair = both(uint160(first) == uint160(payee), uint160(second) == uint160(address(token)));
        return both(isPair, both(index != 0, index <= destinationCount()));
    }

    function hashOf(IChannelEscrow.Channel memory channel) private pure returns (bytes32) {
        return keccak256(abi.encode(channel));
    }

    // --- The escrow's storage ---

    function putChannel(bytes32 id, uint256 funds, uint256 terms, uint256 signer) private {
        bytes32 slot = slotOf(id, CHANNELS);
        put(slot, 0, funds);
        put(slot, 1, terms);
        put(slot, 2, signer);
    }

    function putEntry(uint256 destination, address payee, address token_) private {
        bytes32 slot = slotOfEntry(destination);
        put(slot, 0, uint160(payee));
        put(slot, 1, uint160(token_));
    }

    function slotOfEntry(uint256 destination) private pure returns (bytes32) {
        return slotOf(bytes32(destination), DESTINATIONS);
    }

    /// @dev Where the list's index of a pair is.
    function slotOfPair(address payee, address token_) private pure returns (bytes32) {
        return slotOf(toBytes32(token_), uint256(slotOf(toBytes32(payee), DESTINATION_INDEX)));
    }

    function toBytes32(address account) private pure returns (bytes32) {
        return bytes32(uint256(uint160(account)));
    }

    function destinationCount() private view returns (uint256) {
        return uint40(wordOf(bytes32(DESTINATION_COUNT), 0));
    }

    function slotOf(bytes32 key, uint256 mappingSlot) private pure returns (bytes32) {
        return keccak256(abi.encode(key, mappingSlot));
    }

    function put(bytes32 slot, uint256 offset, uint256 word) private {
        vm.store(address(escrow), bytes32(uint256(slot) + offset), bytes32(word));
    }

    function wordOf(bytes32 slot, uint256 offset) private view returns (uint256) {
        return uint256(vm.load(address(escrow), bytes32(uint256(slot) + offset)));
    }
}
