// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {SymbolicFixture} from "./SymbolicFixture.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";

/// @notice As `SolvencyTest`, for the entry points that pay two sides or whomever they are told to: where each transfer may
/// fail and any accounts may be the same, the paths are many. This contract is the settlement.
contract PayoutTest is SymbolicFixture {
    function check_Close(bytes32 id, uint128 amount) public {
        address caller = assumeCaller();
        (Roles memory roles, State memory before) = start(id, caller);
        bytes memory signature = SVM.createBytes(65, "signature");
        vm.prank(caller);
        escrow.close(id, amount, signature);
        assertStep(before, id, roles);
    }

    function check_CloseChannel(bytes32 id, uint128 amount) public {
        (Roles memory roles, State memory before) = start(id, address(0));
        escrow.closeChannel(id, amount);
        assertStep(before, id, roles);
    }

    function check_AdvanceChannels(address payee, IChannelEscrow.Advance calldata row) public {
        vm.assume(payee != address(escrow));
        (Roles memory roles, State memory before) = start(row.channelId, payee);
        IChannelEscrow.Advance[] memory rows = new IChannelEscrow.Advance[](1);
        rows[0] = row;
        escrow.advanceChannels(payee, address(token), rows);
        assertStep(before, row.channelId, roles);
    }
}
