// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Test} from "forge-std/Test.sol";
import {IExecutorRegistry} from "lloom/interfaces/IExecutorRegistry.sol";
import {UsageHash} from "lloom/libraries/UsageHash.sol";

/// @dev Against forge's own EIP-712 encoder, which knows nothing of this project.
contract UsageHashTest is Test {
    string private constant REQUEST_TYPE =
        "InferenceRequest(bytes32 channelId,address operator,uint256 nonce,bytes32 model,bytes32 promptHash,uint32 maxInputTokens,uint32 maxOutputTokens,uint128 inputPrice,uint128 outputPrice,uint64 deadline)";
    string private constant BILL_TYPE =
        "UsageBill(bytes32 channelId,bytes32 requestHash,bytes32 responseHash,uint32 inputTokens,uint32 outputTokens,uint128 amount,uint64 completedAt)";

    function hashRequest(IExecutorRegistry.InferenceRequest calldata request) external pure returns (bytes32) {
        return UsageHash.hashRequest(request);
    }

    function hashBill(IExecutorRegistry.UsageBill calldata bill) external pure returns (bytes32) {
        return UsageHash.hashBill(bill);
    }

    function testFuzz_ARequestIsHashedAsEip712Does(IExecutorRegistry.InferenceRequest calldata request) public view {
        assertEq(this.hashRequest(request), vm.eip712HashStruct(REQUEST_TYPE, abi.encode(request)));
    }

    function testFuzz_ABillIsHashedAsEip712Does(IExecutorRegistry.UsageBill calldata bill) public view {
        assertEq(this.hashBill(bill), vm.eip712HashStruct(BILL_TYPE, abi.encode(bill)));
    }
}
