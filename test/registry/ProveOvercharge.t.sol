// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {ChoosingSigner} from "../adversary/Signers.sol";
import {RegistryFixture} from "./RegistryFixture.sol";
import {IExecutorRegistry} from "lloom/interfaces/IExecutorRegistry.sol";

contract ProveOverchargeTest is RegistryFixture {
    function setUp() public override {
        super.setUp();
        giveBond(BOND);
    }

    function report(
        IExecutorRegistry.InferenceRequest memory request,
        IExecutorRegistry.UsageBill memory bill,
        bytes memory signature
    ) private {
        vm.prank(reporter);
        registry.proveOvercharge(request, bill, signature);
    }

    function expectCharged(IExecutorRegistry.InferenceRequest memory request, IExecutorRegistry.UsageBill memory bill)
        private
    {
        report(request, bill, sign(operator, bill));
        assertTrue(registry.isCharged(channelId, bill.requestHash));
        assertEq(bonded(), BOND - BOND / 10);
    }

    function expectRefused(
        IExecutorRegistry.InferenceRequest memory request,
        IExecutorRegistry.UsageBill memory bill,
        bytes4 reason
    ) private {
        expectRefused(request, bill, sign(operator, bill), reason);
    }

    function expectRefused(
        IExecutorRegistry.InferenceRequest memory request,
        IExecutorRegistry.UsageBill memory bill,
        bytes memory signature,
        bytes4 reason
    ) private {
        vm.expectPartialRevert(reason);
        report(request, bill, signature);
        assertEq(bonded(), BOND);
    }

    // --- What a fault costs ---

    function test_ChargesASliceAndSharesItOut() public {
        (IExecutorRegistry.InferenceRequest memory request, IExecutorRegistry.UsageBill memory bill) = makeOvercharge(1);
        bytes memory signature = sign(operator, bill);
        vm.expectEmit(address(registry));
        emit IExecutorRegistry.FaultCharged(
            payee.addr,
            channelId,
            reporter,
            hashOf(request),
            IExecutorRegistry.Fault.Overcharge,
            operator.addr,
            address(bondToken),
            100e6
        );
        report(request, bill, signature);

        assertEq(bonded(), 900e6);
        assertEq(shareOf(payer.addr), 40e6);
        assertEq(shareOf(reporter), 10e6);
        assertEq(bondToken.balanceOf(BURN_ADDRESS), 50e6);
        assertEq(bondToken.balanceOf(address(registry)), 950e6);
    }

    /// @dev Whatever a bond holds: its tenth rounded up, of which two fifths and one tenth rounded down; the rest burns.
    function testFuzz_SharesAddUpToTheSlice(uint128 amount) public {
        requestUnbond(BOND);
        skip(DELAY);
        withdrawBond();
        amount = uint128(bound(amount, 1, type(uint128).max));
        giveBond(amount);
        reportOvercharge(1);

        uint256 slice = amount - bonded();
        assertEq(slice, uint256(amount) / 10 + (amount % 10 == 0 ? 0 : 1));
        assertEq(shareOf(payer.addr), slice * 4 / 10);
        assertEq(shareOf(reporter), slice / 10);
        assertEq(bondToken.balanceOf(BURN_ADDRESS), slice - slice * 4 / 10 - slice / 10);
    }

    function test_EachFaultCostsATenthOfWhatIsLeft() public {
        reportOvercharge(1);
        reportOvercharge(2);
        assertEq(bonded(), 810e6);
        assertEq(shareOf(payer.addr), 40e6 + 36e6);
    }

    function test_TheLastBaseUnitBurns() public {
        requestUnbond(BOND - 1);
        skip(DELAY);
        withdrawBond();
        reportOvercharge(1);
        assertEq(bonded(), 0);
        assertEq(bondToken.balanceOf(BURN_ADDRESS), 1);
        assertEq(registry.bondOf(payee.addr).token, address(0));
    }

    /// @dev Half is lost though the payee is payer and reporter of its own fault.
    function test_PunishingOneselfDoesNotPay() public {
        fund(payee.addr, DEPOSIT);
        vm.prank(payee.addr);
        channelId = escrow.open(payee.addr, address(token), DEPOSIT, SALT, address(0));
        (IExecutorRegistry.InferenceRequest memory request, IExecutorRegistry.UsageBill memory bill) = makeOvercharge(1);
        bytes memory signature = sign(payee, bill);
        vm.startPrank(payee.addr);
        registry.proveOvercharge(request, bill, signature);
        registry.withdraw(address(bondToken), payee.addr);
        assertEq(bondToken.balanceOf(payee.addr) + bonded(), type(uint128).max - BOND / 20);
    }

    /// @dev Of the largest bond there is, filled up again after each fault: shares add up to more than a bond can hold.
    function test_SharesAreCountedInFull() public {
        uint256 slice = uint256(type(uint128).max) / 10 + 1;
        uint256 faults = 110;
        bondToken.mint(payee.addr, faults * slice);
        for (uint256 i = 1; i <= faults; ++i) {
            giveBond(type(uint128).max - bonded());
            reportOvercharge(i);
        }
        assertEq(shareOf(payer.addr), faults * (slice * 4 / 10));
        assertEq(shareOf(reporter), faults * (slice / 10));
        assertGt(shareOf(reporter), type(uint128).max);
    }

    function test_AnUnbondingBondIsPunishedUntilItIsWithdrawn() public {
        requestUnbond(BOND);
        skip(DELAY + 365 days);
        reportOvercharge(1);
        assertEq(bonded(), 900e6);
    }

    function test_AFinalChannelsBillsAreStillPunished() public {
        closeAs(payee.addr, channelId, 0);
        reportOvercharge(1);
        assertEq(shareOf(payer.addr), 40e6);
    }

    // --- What an overcharge is ---

    function test_ATokenTooMuchIsOne() public {
        IExecutorRegistry.InferenceRequest memory request = makeRequest(1);
        IExecutorRegistry.UsageBill memory bill = makeBill(request);
        (bill.inputTokens, bill.amount) = (request.maxInputTokens + 1, 0);
        expectCharged(request, bill);
    }

    function test_AnOutputTokenTooMuchIsOne() public {
        IExecutorRegistry.InferenceRequest memory request = makeRequest(1);
        IExecutorRegistry.UsageBill memory bill = makeBill(request);
        (bill.outputTokens, bill.amount) = (request.maxOutputTokens + 1, 0);
        expectCharged(request, bill);
    }

    function test_ABaseUnitTooMuchIsOne() public {
        (IExecutorRegistry.InferenceRequest memory request, IExecutorRegistry.UsageBill memory bill) = makeOvercharge(1);
        expectCharged(request, bill);
    }

    function test_AnAmountForNoTokensIsOne() public {
        IExecutorRegistry.InferenceRequest memory request = makeRequest(1);
        IExecutorRegistry.UsageBill memory bill = makeBill(request);
        (bill.inputTokens, bill.outputTokens, bill.amount) = (0, 0, 1);
        expectCharged(request, bill);
    }

    /// @dev An exact price has nothing to round.
    function test_ABaseUnitAboveAnExactPriceIsOne() public {
        IExecutorRegistry.InferenceRequest memory request = makeRequest(1);
        request.outputPrice = 600_000;
        IExecutorRegistry.UsageBill memory bill = makeBill(request);
        expectCharged(request, bill);
    }

    function test_LimitsAndPriceExactlyMetAreNone() public {
        IExecutorRegistry.InferenceRequest memory request = makeRequest(1);
        expectRefused(request, makeBill(request), IExecutorRegistry.NotOvercharged.selector);
    }

    function test_AnExactPriceIsNone() public {
        IExecutorRegistry.InferenceRequest memory request = makeRequest(1);
        request.outputPrice = 600_000;
        IExecutorRegistry.UsageBill memory bill = makeBill(request);
        bill.amount = 384;
        expectRefused(request, bill, IExecutorRegistry.NotOvercharged.selector);
    }

    /// @dev The largest numbers there are: the sum of products needs 161 bits.
    function test_TheLargestCountsAndPricesDontOverflow() public {
        IExecutorRegistry.InferenceRequest memory request = makeRequest(1);
        (request.maxInputTokens, request.maxOutputTokens) = (type(uint32).max, type(uint32).max);
        (request.inputPrice, request.outputPrice) = (type(uint128).max, type(uint128).max);
        IExecutorRegistry.UsageBill memory bill = makeBill(request);
        (bill.inputTokens, bill.outputTokens, bill.amount) = (type(uint32).max, type(uint32).max, type(uint128).max);
        expectRefused(request, bill, IExecutorRegistry.NotOvercharged.selector);

        request.maxOutputTokens -= 1;
        bill.requestHash = hashOf(request);
        expectCharged(request, bill);
    }

    /// @dev The largest amount, by one base unit: (2^128 - 2) million millionths and one more.
    function test_TheLargestAmountIsCheckedToTheBaseUnit() public {
        assertCheckedToTheBaseUnit(1_000_000, 0);
    }

    function test_TheLargestAmountOfOutputIsCheckedToTheBaseUnit() public {
        assertCheckedToTheBaseUnit(0, 1_000_000);
    }

    function assertCheckedToTheBaseUnit(uint32 input, uint32 output) private {
        IExecutorRegistry.InferenceRequest memory request = makeRequest(1);
        (request.maxInputTokens, request.maxOutputTokens) = (input, output);
        (request.inputPrice, request.outputPrice) = (type(uint128).max, type(uint128).max);
        IExecutorRegistry.UsageBill memory bill = makeBill(request);
        (bill.inputTokens, bill.outputTokens, bill.amount) = (input, output, type(uint128).max);
        expectRefused(request, bill, IExecutorRegistry.NotOvercharged.selector);

        (request.inputPrice, request.outputPrice) = (type(uint128).max - 1, type(uint128).max - 1);
        bill.requestHash = hashOf(request);
        expectCharged(request, bill);
    }

    function testFuzz_TheBoundIsThePriceRoundedUp(
        uint32[4] memory counts,
        uint128 inputPrice,
        uint128 outputPrice,
        uint128 amount
    ) public {
        IExecutorRegistry.InferenceRequest memory request = makeRequest(1);
        (request.maxInputTokens, request.maxOutputTokens) = (counts[0], counts[1]);
        (request.inputPrice, request.outputPrice) = (inputPrice / 2 ** 24, outputPrice / 2 ** 24);
        IExecutorRegistry.UsageBill memory bill = makeBill(request);
        bill.inputTokens = uint32(bound(counts[2], 0, counts[0]));
        bill.outputTokens = uint32(bound(counts[3], 0, counts[1]));
        uint256 cost = uint256(bill.inputTokens) * request.inputPrice + uint256(bill.outputTokens) * request.outputPrice;
        uint256 price = cost / 1e6 + (cost % 1e6 == 0 ? 0 : 1);

        bill.amount = uint128(bound(amount, 0, price));
        expectRefused(request, bill, IExecutorRegistry.NotOvercharged.selector);
        bill.amount = uint128(bound(amount, price + 1, type(uint128).max));
        expectCharged(request, bill);
    }

    // --- Once ---

    function test_RevertGiven_ItWasCharged() public {
        reportOvercharge(1);
        vm.expectRevert(IExecutorRegistry.AlreadyCharged.selector);
        reportOvercharge(1);
    }

    function test_RevertGiven_TheRequestsDoubleBillWasCharged() public {
        reportDoubleBill(1);
        vm.expectRevert(IExecutorRegistry.AlreadyCharged.selector);
        reportOvercharge(1);
    }

    /// @dev A report that found no bond has changed nothing: the same one succeeds when there is one.
    function test_RevertGiven_NothingIsAtStake() public {
        requestUnbond(BOND);
        skip(DELAY);
        withdrawBond();
        vm.expectRevert(IExecutorRegistry.NothingAtStake.selector);
        reportOvercharge(1);
        assertFalse(registry.isCharged(channelId, hashOf(makeRequest(1))));

        giveBond(BOND);
        reportOvercharge(1);
        assertEq(bonded(), 900e6);
    }

    /// @dev What the manual warns of: a bond secures what is signed while it stands, and a bond of dust took this fault.
    function test_RevertGiven_ABondOfDustWasChargedBefore() public {
        requestUnbond(BOND);
        skip(DELAY);
        withdrawBond();
        giveBond(1);
        reportOvercharge(1);
        assertEq(bonded(), 0);

        giveBond(BOND);
        vm.expectRevert(IExecutorRegistry.AlreadyCharged.selector);
        reportOvercharge(1);
    }

    // --- Documents that don't belong together ---

    function test_RevertWhen_TheRequestIsAnother() public {
        (IExecutorRegistry.InferenceRequest memory request, IExecutorRegistry.UsageBill memory bill) = makeOvercharge(1);
        request.inputPrice = 0;
        expectRefused(request, bill, IExecutorRegistry.RequestMismatch.selector);
    }

    function test_RevertWhen_TheBillIsForAnotherChannel() public {
        (IExecutorRegistry.InferenceRequest memory request, IExecutorRegistry.UsageBill memory bill) = makeOvercharge(1);
        vm.prank(payer.addr);
        bill.channelId = escrow.open(payee.addr, address(token), DEPOSIT, bytes32(0), address(0));
        expectRefused(request, bill, IExecutorRegistry.RequestMismatch.selector);
    }

    function test_RevertWhen_TheChannelIsUnknown() public {
        channelId = keccak256("none");
        (IExecutorRegistry.InferenceRequest memory request, IExecutorRegistry.UsageBill memory bill) = makeOvercharge(1);
        expectRefused(request, bill, IExecutorRegistry.ChannelNotFound.selector);
    }

    /// @dev Another chain, another settlement, the escrow's domain: who signed in those is nobody here.
    function test_RevertWhen_TheBillWasSignedInAnotherDomain() public {
        (IExecutorRegistry.InferenceRequest memory request, IExecutorRegistry.UsageBill memory bill) = makeOvercharge(1);
        bytes32[3] memory domains = [bytes32(0), domainOf("Lloom", stranger), escrowDomain()];
        vm.chainId(block.chainid + 1);
        domains[0] = settlementDomain();
        vm.chainId(block.chainid - 1);
        for (uint256 i = 0; i < domains.length; ++i) {
            bytes memory signature = signDigest(operator, typedDigest(domains[i], hashOf(bill)));
            expectRefused(request, bill, signature, IExecutorRegistry.NotPunishable.selector);
        }
    }

    // --- Signers ---

    function test_ThePayeeAnswersForWhatItSignsItself() public {
        (IExecutorRegistry.InferenceRequest memory request, IExecutorRegistry.UsageBill memory bill) = makeOvercharge(1);
        report(request, bill, sign(payee, bill));
        assertEq(bonded(), 900e6);
    }

    function test_APayeeAnswersForAnOperatorTheRequestDoesNotName() public {
        vm.prank(payee.addr);
        registry.addOperator(signer.addr);
        (IExecutorRegistry.InferenceRequest memory request, IExecutorRegistry.UsageBill memory bill) = makeOvercharge(1);
        report(request, bill, sign(signer, bill));
        assertEq(bonded(), 900e6);
    }

    function test_RevertWhen_TheSignerIsNobodyOfThePayees() public {
        vm.prank(stranger);
        registry.addOperator(signer.addr);
        (IExecutorRegistry.InferenceRequest memory request, IExecutorRegistry.UsageBill memory bill) = makeOvercharge(1);
        Account[2] memory others = [payer, signer];
        for (uint256 i = 0; i < others.length; ++i) {
            bytes memory signature = sign(others[i], bill);
            vm.expectRevert(abi.encodeWithSelector(IExecutorRegistry.NotPunishable.selector, others[i].addr));
            report(request, bill, signature);
        }
    }

    function test_ARetiredOperatorIsPunishedInTheLastSecondOfTheDelay() public {
        vm.prank(payee.addr);
        registry.removeOperator(operator.addr);
        skip(DELAY - 1);
        reportOvercharge(1);
        assertEq(bonded(), 900e6);
    }

    function test_RevertGiven_TheOperatorsDelayHasPassed() public {
        vm.prank(payee.addr);
        registry.removeOperator(operator.addr);
        skip(DELAY);
        vm.expectRevert(abi.encodeWithSelector(IExecutorRegistry.NotPunishable.selector, operator.addr));
        reportOvercharge(1);
    }

    function test_AnOperatorNamedAgainIsPunishedAgain() public {
        vm.startPrank(payee.addr);
        registry.removeOperator(operator.addr);
        skip(DELAY);
        registry.addOperator(operator.addr);
        vm.stopPrank();
        reportOvercharge(1);
        assertEq(bonded(), 900e6);
    }

    // --- Signatures ---

    function test_TakesTheCompactForm() public {
        (IExecutorRegistry.InferenceRequest memory request, IExecutorRegistry.UsageBill memory bill) = makeOvercharge(1);
        (bytes32 r, bytes32 vs) = vm.signCompact(operator.key, digestOf(bill));
        report(request, bill, abi.encodePacked(r, vs));
        assertEq(bonded(), 900e6);
    }

    function test_TakesAnyValidSignatureOfTheKey() public {
        (IExecutorRegistry.InferenceRequest memory request, IExecutorRegistry.UsageBill memory bill) = makeOvercharge(1);
        report(request, bill, signAnew(operator, bill));
        assertEq(bonded(), 900e6);
    }

    function test_RevertWhen_SIsInTheUpperHalf() public {
        (IExecutorRegistry.InferenceRequest memory request, IExecutorRegistry.UsageBill memory bill) = makeOvercharge(1);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(operator.key, digestOf(bill));
        bytes memory signature = abi.encodePacked(r, bytes32(ORDER - uint256(s)), v == 27 ? uint8(28) : uint8(27));
        expectRefused(request, bill, signature, IExecutorRegistry.InvalidSignature.selector);
    }

    function test_RevertWhen_VIsNot27Or28() public {
        (IExecutorRegistry.InferenceRequest memory request, IExecutorRegistry.UsageBill memory bill) = makeOvercharge(1);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(operator.key, digestOf(bill));
        uint8[3] memory wrong = [v - 27, v + 2, 0];
        for (uint256 i = 0; i < wrong.length; ++i) {
            expectRefused(request, bill, abi.encodePacked(r, s, wrong[i]), IExecutorRegistry.InvalidSignature.selector);
        }
    }

    function test_RevertWhen_LengthIsNeither64Nor65() public {
        (IExecutorRegistry.InferenceRequest memory request, IExecutorRegistry.UsageBill memory bill) = makeOvercharge(1);
        uint16[6] memory lengths = [0, 1, 64, 65, 66, 10_000];
        for (uint256 i = 0; i < lengths.length; ++i) {
            expectRefused(request, bill, new bytes(lengths[i]), IExecutorRegistry.InvalidSignature.selector);
        }
        bytes memory longer = bytes.concat(sign(operator, bill), hex"00");
        expectRefused(request, bill, longer, IExecutorRegistry.InvalidSignature.selector);
    }

    function testFuzz_RevertWhen_ABitOfTheBillIsFlipped(uint256 bit) public {
        (IExecutorRegistry.InferenceRequest memory request, IExecutorRegistry.UsageBill memory bill) = makeOvercharge(1);
        bytes memory signature = sign(operator, bill);
        bill.responseHash ^= bytes32(uint256(1) << (bit % 256));
        expectRefused(request, bill, signature, IExecutorRegistry.NotPunishable.selector);
    }

    /// @dev A wallet that vouches for anything, be it the payee or its operator, convicts nobody.
    function test_RevertWhen_OnlyAContractSaysItSigned() public {
        (IExecutorRegistry.InferenceRequest memory request, IExecutorRegistry.UsageBill memory bill) = makeOvercharge(1);
        ChoosingSigner wallet = new ChoosingSigner();
        wallet.choose(digestOf(bill), abi.encode(bytes4(0x1626ba7e)));
        vm.prank(payee.addr);
        registry.addOperator(address(wallet));
        expectRefused(request, bill, "", IExecutorRegistry.InvalidSignature.selector);
        expectRefused(request, bill, sign(signer, bill), IExecutorRegistry.NotPunishable.selector);
        vm.etch(payee.addr, address(wallet).code);
        expectRefused(request, bill, "", IExecutorRegistry.InvalidSignature.selector);
    }

    /// @dev Nor does code at a key's address (EIP-7702) acquit it.
    function test_AKeysSignatureCountsWhateverCodeItsAddressHas() public {
        vm.etch(operator.addr, type(ChoosingSigner).runtimeCode);
        reportOvercharge(1);
        assertEq(bonded(), 900e6);
    }
}
