// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {RegistryFixture} from "./RegistryFixture.sol";
import {IExecutorRegistry} from "lloom/interfaces/IExecutorRegistry.sol";

/// @notice Histories that the protocol allows. Of none of them can a proof be made: every request is shown with every
/// bill, and every bill with every other.
contract InnocenceTest is RegistryFixture {
    IExecutorRegistry.InferenceRequest[] private requests;
    IExecutorRegistry.UsageBill[] private bills;
    bytes[] private signatures;

    function setUp() public override {
        super.setUp();
        giveBond(BOND);
    }

    function asks(uint256 nonce) private returns (IExecutorRegistry.InferenceRequest memory request) {
        request = makeRequest(nonce);
        requests.push(request);
    }

    function bill(Account memory by, IExecutorRegistry.UsageBill memory signed) private {
        bills.push(signed);
        signatures.push(sign(by, signed));
    }

    /// @dev Fails for what the documents say, not for a signer, a channel or a bond.
    function assertInnocent() private {
        for (uint256 i = 0; i < bills.length; ++i) {
            for (uint256 j = 0; j < requests.length; ++j) {
                bytes4 reason =
                    refusal(abi.encodeCall(registry.proveOvercharge, (requests[j], bills[i], signatures[i])));
                assertTrue(
                    reason == IExecutorRegistry.RequestMismatch.selector
                        || reason == IExecutorRegistry.NotOvercharged.selector
                );
            }
            for (uint256 j = 0; j < bills.length; ++j) {
                bytes4 reason = refusal(
                    abi.encodeCall(registry.proveDoubleBill, (bills[i], signatures[i], bills[j], signatures[j]))
                );
                assertTrue(
                    reason == IExecutorRegistry.DifferentRequests.selector
                        || reason == IExecutorRegistry.SameBill.selector
                        || reason == IExecutorRegistry.DifferentSigners.selector
                );
            }
        }
        assertEq(bonded(), BOND);
    }

    function refusal(bytes memory call) private returns (bytes4) {
        vm.prank(reporter);
        (bool success, bytes memory answer) = address(registry).call(call);
        assertFalse(success);
        return bytes4(answer);
    }

    function test_ABillThatIsRefusedAndNeverLinked() public {
        bill(operator, makeBill(asks(1)));
        bill(operator, makeBill(asks(2))); // life goes on
        assertInnocent();
    }

    function test_ABillThatIsSentAgain() public {
        IExecutorRegistry.UsageBill memory signed = makeBill(asks(1));
        bill(operator, signed);
        bill(operator, signed);
        assertInnocent();
    }

    /// @dev The ledger's copy has lost the signature, not the bill: the key signs the same bill anew.
    function test_ABillThatARestoredBackupSignsAgain() public {
        IExecutorRegistry.UsageBill memory signed = makeBill(asks(1));
        bill(operator, signed);
        bills.push(signed);
        signatures.push(signAnew(operator, signed));
        assertInnocent();
    }

    /// @dev Billed is what was delivered, within what was asked for.
    function testFuzz_AClientThatIsGoneMidway(uint32 delivered) public {
        IExecutorRegistry.UsageBill memory signed = makeBill(asks(1));
        signed.outputTokens = uint32(bound(delivered, 0, 340));
        uint256 cost = 1200 * 150_000 + uint256(signed.outputTokens) * 600_001;
        signed.amount = uint128((cost + 999_999) / 1e6);
        bill(operator, signed);
        assertInnocent();
    }

    function test_AnUndercharge() public {
        IExecutorRegistry.UsageBill memory signed = makeBill(asks(1));
        signed.amount = 0;
        bill(operator, signed);
        assertInnocent();
    }

    function test_ManyOperatorsThatBillRequestsOfTheirOwn() public {
        vm.prank(payee.addr);
        registry.addOperator(signer.addr);
        bill(operator, makeBill(asks(1)));
        bill(signer, makeBill(asks(2)));
        bill(payee, makeBill(asks(3)));
        assertInnocent();
    }

    function test_TwoOperatorsThatBillOneRequestEach() public {
        vm.prank(payee.addr);
        registry.addOperator(signer.addr);
        IExecutorRegistry.UsageBill memory signed = makeBill(asks(1));
        bill(operator, signed);
        --signed.amount;
        bill(signer, signed);
        assertInnocent();
    }

    /// @dev One and the same question, in two channels: each has a request and a bill of its own.
    function test_OneQuestionInTwoChannels() public {
        bill(operator, makeBill(asks(1)));
        vm.prank(payer.addr);
        channelId = escrow.open(payee.addr, address(token), DEPOSIT, bytes32(0), address(0));
        bill(operator, makeBill(asks(1)));
        assertInnocent();
    }

    function test_ARequestThatIsNeverBilled() public {
        asks(1);
        bill(operator, makeBill(asks(2)));
        assertInnocent();
    }

    function test_AnOperatorThatIsRetired() public {
        bill(operator, makeBill(asks(1)));
        vm.prank(payee.addr);
        registry.removeOperator(operator.addr);
        bill(operator, makeBill(asks(2))); // a stream that was open
        assertInnocent();
        skip(DELAY);
        assertInnocent();
    }

    /// @dev A payer makes up requests at will, after the fact as well: none has the hash of one that was billed.
    function testFuzz_ARequestMadeUpAfterwards(IExecutorRegistry.InferenceRequest memory madeUp) public {
        bill(operator, makeBill(asks(1)));
        requests.push(madeUp);
        madeUp.channelId = channelId;
        requests.push(madeUp);
        assertInnocent();
    }
}
