// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {SymbolicFixture} from "./SymbolicFixture.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {VoucherAmounts} from "lloom/types/VoucherAmounts.sol";

/// @notice The ways to pay out of a channel that stays open; of those that take rows, one row. This contract is the settlement.
contract SettlingTest is SymbolicFixture {
    function check_Settle(uint128 amount) public {
        address caller = anyAccount("caller");
        bytes memory signature = SVM.createBytes(65, "signature");
        assumeChannel(ID);
        State memory before = observe(ID);
        vm.prank(caller);
        escrow.settle(ID, amount, signature);
        assertStep(before, ID);
    }

    function check_SettleWithAuthorization(uint128 amount, uint256 nonce, uint256 deadline) public {
        bytes memory payeeSignature = SVM.createBytes(65, "payee signature");
        bytes memory signature = SVM.createBytes(65, "signature");
        assumeChannel(ID);
        State memory before = observe(ID);
        escrow.settleWithAuthorization(ID, amount, nonce, deadline, payeeSignature, signature);
        assertStep(before, ID);
    }

    function check_ClaimVouchers(bytes32 r, bytes32 vs, uint256 amounts) public {
        (address payee, address signer) = (anyAccount("payee"), anySigner());
        IChannelEscrow.VoucherRow[] memory rows = new IChannelEscrow.VoucherRow[](1);
        rows[0] = IChannelEscrow.VoucherRow(FIRST, SALT, signer, r, vs, VoucherAmounts.wrap(amounts));
        bytes32 id = escrow.computeChannelId(FIRST, payee, address(token), SALT, signer);
        assumeChannel(id);
        State memory before = observe(id);
        escrow.claimVouchers(payee, address(token), rows);
        assertStep(before, id);
    }

    function check_ClaimContractVouchers(uint256 amounts) public {
        (address payee, address signer) = (anyAccount("payee"), anySigner());
        bytes memory signature = SVM.createBytes(65, "signature");
        IChannelEscrow.ContractVoucherRow[] memory rows = new IChannelEscrow.ContractVoucherRow[](1);
        rows[0] = IChannelEscrow.ContractVoucherRow(FIRST, SALT, signer, signature, VoucherAmounts.wrap(amounts));
        bytes32 id = escrow.computeChannelId(FIRST, payee, address(token), SALT, signer);
        assumeChannel(id);
        State memory before = observe(id);
        escrow.claimContractVouchers(payee, address(token), rows);
        assertStep(before, id);
    }

    function check_AdvanceChannels(uint128 amount) public {
        address payee = anyAccount("payee");
        IChannelEscrow.Advance[] memory rows = new IChannelEscrow.Advance[](1);
        rows[0] = IChannelEscrow.Advance(ID, amount);
        assumeChannel(ID);
        State memory before = observe(ID);
        escrow.advanceChannels(payee, address(token), rows);
        assertStep(before, ID);
    }

    function check_OnlyTheSettlementAdvancesAndCloses(
        address payee,
        IChannelEscrow.Advance calldata row,
        bytes32 id,
        uint128 amount
    ) public {
        address caller = SVM.createAddress("caller");
        vm.assume(caller != address(this));
        IChannelEscrow.Advance[] memory rows = new IChannelEscrow.Advance[](1);
        rows[0] = row;
        vm.prank(caller);
        try escrow.advanceChannels(payee, address(token), rows) {
            assert(false);
        } catch {}
        vm.prank(caller);
        try escrow.closeChannel(id, amount) {
            assert(false);
        } catch {}
    }
}
