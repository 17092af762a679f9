// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {PlainToken} from "./PlainToken.sol";
import {SymbolicVm} from "./SymbolicFixture.sol";
import {Test} from "forge-std/Test.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";

/// @notice What a channel looks up in a list, shared with other channels, is what it was opened with.
contract OpenTest is Test {
    SymbolicVm private constant SVM = SymbolicVm(address(uint160(uint256(keccak256("svm cheat code")))));

    IChannelEscrow private escrow;
    address[2] private tokens;

    function setUp() public {
        escrow = IChannelEscrow(deployCode("ChannelEscrow.sol:ChannelEscrow", abi.encode(address(this))));
        tokens = [address(new PlainToken()), address(new PlainToken())];
        SVM.enableSymbolicStorage(tokens[0]);
        SVM.enableSymbolicStorage(tokens[1]);
    }

    /// @dev Two channels from an empty escrow, alike or not in anything but their ids.
    function check_TwoChannelsAreReadBack(
        address[2] calldata payees,
        bool[2] calldata second,
        bytes32[2] calldata salts
    ) public {
        address[2] memory used = [tokens[second[0] ? 1 : 0], tokens[second[1] ? 1 : 0]];
        vm.startPrank(address(0xca11e4));
        bytes32 first = escrow.open(payees[0], used[0], 1, salts[0], address(0));
        bytes32 other = escrow.open(payees[1], used[1], 1, salts[1], address(0));
        assertIs(escrow.getChannel(first), payees[0], used[0]);
        assertIs(escrow.getChannel(other), payees[1], used[1]);
    }

    function assertIs(IChannelEscrow.Channel memory channel, address payee, address token) private pure {
        assert(channel.payee == payee);
        assert(channel.token == token);
    }
}
