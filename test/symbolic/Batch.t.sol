// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {SymbolicFixture} from "./SymbolicFixture.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";

/// @notice Claims, which take a solver long: one row keeps the escrow solvent; and two rows, whatever they say, equal two
/// batches of one, in order, from any state.
contract BatchTest is SymbolicFixture {
    /// @dev What a call did, carried out of it by a revert: so both ways start from one state.
    error Outcome(uint256 result, uint256 wealth, bytes32 first, bytes32 second);

    /// @dev What `SolvencyTest` shows of the other entry points. It takes long because the channel's id is a hash.
    function check_ClaimVouchers(address payee, IChannelEscrow.VoucherRow calldata row) public {
        vm.assume(payee != address(escrow));
        bytes32 id = escrow.computeChannelId(row.payer, payee, address(token), row.salt, row.authorizedSigner);
        (Roles memory roles, State memory before) = start(id, payee);
        IChannelEscrow.VoucherRow[] memory rows = new IChannelEscrow.VoucherRow[](1);
        rows[0] = row;
        vm.prank(assumeCaller());
        escrow.claimVouchers(payee, address(token), rows);
        assertStep(before, id, roles);
    }

    function check_TwoVouchers(
        address payee,
        IChannelEscrow.VoucherRow calldata first,
        IChannelEscrow.VoucherRow calldata second
    ) public {
        vm.assume(payee != address(escrow));
        bytes memory together = outcomeOf(abi.encodeCall(this.claimTogether, (payee, first, second)));
        bytes memory apart = outcomeOf(abi.encodeCall(this.claimApart, (payee, first, second)));
        assert(keccak256(together) == keccak256(apart));
    }

    function check_TwoAdvances(
        address payee,
        IChannelEscrow.Advance calldata first,
        IChannelEscrow.Advance calldata second
    ) public {
        vm.assume(payee != address(escrow));
        bytes memory together = outcomeOf(abi.encodeCall(this.advanceTogether, (payee, first, second)));
        bytes memory apart = outcomeOf(abi.encodeCall(this.advanceApart, (payee, first, second)));
        assert(keccak256(together) == keccak256(apart));
    }

    function outcomeOf(bytes memory call) private returns (bytes memory outcome) {
        bool succeeded;
        (succeeded, outcome) = address(this).call(call);
        assert(!succeeded);
    }

    // --- Each ends in a revert that tells the outcome ---

    function claimTogether(
        address payee,
        IChannelEscrow.VoucherRow calldata first,
        IChannelEscrow.VoucherRow calldata second
    ) external {
        IChannelEscrow.VoucherRow[] memory rows = new IChannelEscrow.VoucherRow[](2);
        (rows[0], rows[1]) = (first, second);
        uint256 paid = escrow.claimVouchers(payee, address(token), rows);
        tell(paid, wealthOf(payee), idOf(payee, first), idOf(payee, second));
    }

    function claimApart(
        address payee,
        IChannelEscrow.VoucherRow calldata first,
        IChannelEscrow.VoucherRow calldata second
    ) external {
        IChannelEscrow.VoucherRow[] memory rows = new IChannelEscrow.VoucherRow[](1);
        rows[0] = first;
        uint256 paid = escrow.claimVouchers(payee, address(token), rows);
        rows[0] = second;
        paid += escrow.claimVouchers(payee, address(token), rows);
        tell(paid, wealthOf(payee), idOf(payee, first), idOf(payee, second));
    }

    function advanceTogether(
        address payee,
        IChannelEscrow.Advance calldata first,
        IChannelEscrow.Advance calldata second
    ) external {
        IChannelEscrow.Advance[] memory rows = new IChannelEscrow.Advance[](2);
        (rows[0], rows[1]) = (first, second);
        uint256 settledRows = escrow.advanceChannels(payee, address(token), rows)[0];
        tell(settledRows, wealthOf(payee), first.channelId, second.channelId);
    }

    function advanceApart(address payee, IChannelEscrow.Advance calldata first, IChannelEscrow.Advance calldata second)
        external
    {
        IChannelEscrow.Advance[] memory rows = new IChannelEscrow.Advance[](1);
        rows[0] = first;
        uint256 settledRows = escrow.advanceChannels(payee, address(token), rows)[0];
        rows[0] = second;
        settledRows |= escrow.advanceChannels(payee, address(token), rows)[0] << 1;
        tell(settledRows, wealthOf(payee), first.channelId, second.channelId);
    }

    function tell(uint256 result, uint256 wealth, bytes32 first, bytes32 second) private view {
        revert Outcome(result, wealth, stateOf(first), stateOf(second));
    }

    function stateOf(bytes32 id) private view returns (bytes32) {
        return keccak256(abi.encode(escrow.getChannel(id)));
    }

    /// @dev Wherever the money went. Modulo 2^256, as this storage is arbitrary.
    function wealthOf(address payee) private view returns (uint256) {
        unchecked {
            return token.balanceOf(payee) + escrow.balanceOf(payee, address(token));
        }
    }

    function idOf(address payee, IChannelEscrow.VoucherRow calldata row) private view returns (bytes32) {
        return escrow.computeChannelId(row.payer, payee, address(token), row.salt, row.authorizedSigner);
    }
}
