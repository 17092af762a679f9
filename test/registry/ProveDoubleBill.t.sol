// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {RegistryFixture} from "./RegistryFixture.sol";
import {IExecutorRegistry} from "lloom/interfaces/IExecutorRegistry.sol";

contract ProveDoubleBillTest is RegistryFixture {
    function setUp() public override {
        super.setUp();
        giveBond(BOND);
    }

    function report(
        IExecutorRegistry.UsageBill memory first,
        bytes memory firstSignature,
        IExecutorRegistry.UsageBill memory second,
        bytes memory secondSignature
    ) private {
        vm.prank(reporter);
        registry.proveDoubleBill(first, firstSignature, second, secondSignature);
    }

    function expectCharged(IExecutorRegistry.UsageBill memory first, IExecutorRegistry.UsageBill memory second)
        private
    {
        report(first, sign(operator, first), second, sign(operator, second));
        assertTrue(registry.isCharged(first.channelId, first.requestHash));
        assertEq(bonded(), BOND - BOND / 10);
    }

    function expectRefused(
        IExecutorRegistry.UsageBill memory first,
        bytes memory firstSignature,
        IExecutorRegistry.UsageBill memory second,
        bytes memory secondSignature,
        bytes4 reason
    ) private {
        vm.expectPartialRevert(reason);
        report(first, firstSignature, second, secondSignature);
        vm.expectPartialRevert(reason);
        report(second, secondSignature, first, firstSignature);
        assertEq(bonded(), BOND);
    }

    // --- What a fault costs ---

    function test_ChargesASliceAndSharesItOut() public {
        (IExecutorRegistry.UsageBill memory first, IExecutorRegistry.UsageBill memory second) = makeDoubleBill(1);
        (bytes memory firstSignature, bytes memory secondSignature) = (sign(operator, first), sign(operator, second));
        vm.expectEmit(address(registry));
        emit IExecutorRegistry.FaultCharged(
            payee.addr,
            channelId,
            reporter,
            first.requestHash,
            IExecutorRegistry.Fault.DoubleBill,
            operator.addr,
            address(bondToken),
            100e6
        );
        report(first, firstSignature, second, secondSignature);

        assertEq(bonded(), 900e6);
        assertEq(shareOf(payer.addr), 40e6);
        assertEq(shareOf(reporter), 10e6);
        assertEq(bondToken.balanceOf(BURN_ADDRESS), 50e6);
        assertEq(bondToken.balanceOf(address(registry)), 950e6);
    }

    // --- What a double bill is ---

    /// @dev Bills that differ anywhere are two, even where both cost the same.
    function test_AnyDifferenceMakesTwoBills() public {
        for (uint256 field = 0; field < 5; ++field) {
            uint256 snapshot = vm.snapshotState();
            IExecutorRegistry.UsageBill memory first = makeBill(makeRequest(1));
            IExecutorRegistry.UsageBill memory second = makeBill(makeRequest(1));
            if (field == 0) second.responseHash = keccak256("another response");
            else if (field == 1) --second.inputTokens;
            else if (field == 2) --second.outputTokens;
            else if (field == 3) --second.amount;
            else ++second.completedAt;
            expectCharged(first, second);
            vm.revertToState(snapshot);
        }
    }

    function test_RevertWhen_ItIsOneBillSentTwice() public {
        IExecutorRegistry.UsageBill memory bill = makeBill(makeRequest(1));
        bytes memory signature = sign(operator, bill);
        expectRefused(bill, signature, bill, signature, IExecutorRegistry.SameBill.selector);
    }

    /// @dev Signed again with another nonce, or written in the other form: still one bill.
    function test_RevertWhen_OneBillHasTwoSignatures() public {
        IExecutorRegistry.UsageBill memory bill = makeBill(makeRequest(1));
        bytes memory signature = sign(operator, bill);
        bytes memory another = signAnew(operator, bill);
        assertNotEq(signature, another);
        expectRefused(bill, signature, bill, another, IExecutorRegistry.SameBill.selector);

        (bytes32 compactR, bytes32 vs) = vm.signCompact(operator.key, digestOf(bill));
        another = abi.encodePacked(compactR, vs);
        expectRefused(bill, signature, bill, another, IExecutorRegistry.SameBill.selector);
    }

    function test_RevertWhen_TheRequestsDiffer() public {
        IExecutorRegistry.UsageBill memory first = makeBill(makeRequest(1));
        IExecutorRegistry.UsageBill memory second = makeBill(makeRequest(2));
        expectRefused(
            first, sign(operator, first), second, sign(operator, second), IExecutorRegistry.DifferentRequests.selector
        );
    }

    function test_RevertWhen_TheChannelsDiffer() public {
        (IExecutorRegistry.UsageBill memory first, IExecutorRegistry.UsageBill memory second) = makeDoubleBill(1);
        vm.prank(payer.addr);
        second.channelId = escrow.open(payee.addr, address(token), DEPOSIT, bytes32(0), address(0));
        expectRefused(
            first, sign(operator, first), second, sign(operator, second), IExecutorRegistry.DifferentRequests.selector
        );
    }

    function test_RevertWhen_TwoOperatorsSignedOneEach() public {
        vm.prank(payee.addr);
        registry.addOperator(signer.addr);
        (IExecutorRegistry.UsageBill memory first, IExecutorRegistry.UsageBill memory second) = makeDoubleBill(1);
        expectRefused(
            first, sign(operator, first), second, sign(signer, second), IExecutorRegistry.DifferentSigners.selector
        );
        expectRefused(
            first, sign(operator, first), second, sign(payee, second), IExecutorRegistry.DifferentSigners.selector
        );
    }

    function test_RevertWhen_TheChannelIsUnknown() public {
        channelId = keccak256("none");
        (IExecutorRegistry.UsageBill memory first, IExecutorRegistry.UsageBill memory second) = makeDoubleBill(1);
        expectRefused(
            first, sign(operator, first), second, sign(operator, second), IExecutorRegistry.ChannelNotFound.selector
        );
    }

    // --- Once ---

    function test_RevertGiven_ItWasCharged() public {
        reportDoubleBill(1);
        vm.expectRevert(IExecutorRegistry.AlreadyCharged.selector);
        reportDoubleBill(1);
    }

    function test_RevertGiven_TheRequestsOverchargeWasCharged() public {
        reportOvercharge(1);
        vm.expectRevert(IExecutorRegistry.AlreadyCharged.selector);
        reportDoubleBill(1);
    }

    function test_RevertGiven_AThirdBillOfTheRequest() public {
        reportDoubleBill(1);
        (IExecutorRegistry.UsageBill memory first, IExecutorRegistry.UsageBill memory third) = makeDoubleBill(1);
        third.amount = 1;
        (bytes memory firstSignature, bytes memory thirdSignature) = (sign(operator, first), sign(operator, third));
        vm.expectRevert(IExecutorRegistry.AlreadyCharged.selector);
        report(first, firstSignature, third, thirdSignature);
    }

    /// @dev A payee that sees a report coming can't use the fault up for half the price: in a channel with itself, the
    /// same request hash is another fault.
    function test_AFaultInAChannelWithOneselfUsesUpNoOthers() public {
        bytes32 theirs = channelId;
        fund(payee.addr, DEPOSIT);
        vm.prank(payee.addr);
        bytes32 own = escrow.open(payee.addr, address(token), DEPOSIT, SALT, address(0));
        (IExecutorRegistry.UsageBill memory first, IExecutorRegistry.UsageBill memory second) = makeDoubleBill(1);
        (first.channelId, second.channelId) = (own, own);
        expectCharged(first, second);

        assertFalse(registry.isCharged(theirs, first.requestHash));
        reportDoubleBill(1);
        assertEq(bonded(), 810e6);
        assertEq(shareOf(payer.addr), 36e6);
    }

    function test_RevertGiven_NothingIsAtStake() public {
        requestUnbond(BOND);
        skip(DELAY);
        withdrawBond();
        vm.expectRevert(IExecutorRegistry.NothingAtStake.selector);
        reportDoubleBill(1);

        giveBond(BOND);
        reportDoubleBill(1);
        assertEq(bonded(), 900e6);
    }

    // --- Signers and signatures ---

    function test_ThePayeeAnswersForWhatItSignsItself() public {
        (IExecutorRegistry.UsageBill memory first, IExecutorRegistry.UsageBill memory second) = makeDoubleBill(1);
        report(first, sign(payee, first), second, sign(payee, second));
        assertEq(bonded(), 900e6);
    }

    function test_RevertWhen_TheSignerIsNobodyOfThePayees() public {
        (IExecutorRegistry.UsageBill memory first, IExecutorRegistry.UsageBill memory second) = makeDoubleBill(1);
        expectRefused(first, sign(payer, first), second, sign(payer, second), IExecutorRegistry.NotPunishable.selector);
    }

    function test_ARetiredOperatorIsPunishedInTheLastSecondOfTheDelay() public {
        vm.prank(payee.addr);
        registry.removeOperator(operator.addr);
        skip(DELAY - 1);
        reportDoubleBill(1);
        assertEq(bonded(), 900e6);
    }

    function test_RevertGiven_TheOperatorsDelayHasPassed() public {
        vm.prank(payee.addr);
        registry.removeOperator(operator.addr);
        skip(DELAY);
        vm.expectRevert(abi.encodeWithSelector(IExecutorRegistry.NotPunishable.selector, operator.addr));
        reportDoubleBill(1);
    }

    /// @dev Each of the two is checked.
    function test_RevertWhen_EitherSignatureIsNone() public {
        (IExecutorRegistry.UsageBill memory first, IExecutorRegistry.UsageBill memory second) = makeDoubleBill(1);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(operator.key, digestOf(second));
        bytes[9] memory wrong = [
            bytes(""),
            new bytes(1),
            new bytes(64),
            new bytes(65),
            new bytes(66),
            new bytes(10_000),
            abi.encodePacked(r, s, v, uint8(0)),
            abi.encodePacked(r, s, v - 27),
            abi.encodePacked(r, bytes32(ORDER - uint256(s)), v == 27 ? uint8(28) : uint8(27))
        ];
        for (uint256 i = 0; i < wrong.length; ++i) {
            expectRefused(first, sign(operator, first), second, wrong[i], IExecutorRegistry.InvalidSignature.selector);
            expectRefused(second, wrong[i], first, sign(operator, first), IExecutorRegistry.InvalidSignature.selector);
        }
        expectRefused(first, "", second, "", IExecutorRegistry.InvalidSignature.selector);
    }

    /// @dev A bill of another chain with the same hashes is signed in another domain: whose key that is, is noise.
    function test_RevertWhen_OneBillIsAnotherChains() public {
        (IExecutorRegistry.UsageBill memory first, IExecutorRegistry.UsageBill memory second) = makeDoubleBill(1);
        vm.chainId(block.chainid + 1);
        bytes memory elsewhere = sign(operator, second);
        vm.chainId(block.chainid - 1);
        expectRefused(first, sign(operator, first), second, elsewhere, IExecutorRegistry.DifferentSigners.selector);
    }
}
