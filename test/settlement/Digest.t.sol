// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "../Fixture.sol";
import {IUsageSettlement} from "lloom/interfaces/IUsageSettlement.sol";

contract DigestTest is Fixture {
    function testFuzz_ReceiptDigestIsEip712s(
        bytes32 id,
        uint64[3] memory counts,
        uint128 amount,
        bytes32 previous,
        bytes32 billHash,
        uint32 chain
    ) public {
        vm.chainId(uint256(chain) + 1);
        IUsageSettlement.ReceiptRow memory row;
        (row.sequence, row.cumulativeInputTokens, row.cumulativeOutputTokens) = (counts[0], counts[1], counts[2]);
        (row.cumulativeAmount, row.previousReceipt, row.billHash) = (amount, previous, billHash);
        assertEq(
            settlement.getReceiptDigest(id, counts[0], counts[1], counts[2], amount, previous, billHash),
            receiptDigest(id, row)
        );
    }

    function testFuzz_BillDigestIsEip712s(bytes32 billHash, uint32 chain) public {
        vm.chainId(uint256(chain) + 1);
        assertEq(settlement.getBillDigest(billHash), typedDigest(settlementDomain(), billHash));
        assertEq(settlement.domainSeparator(), settlementDomain());
    }

    /// @dev The fixture's hashing against forge's own EIP-712 encoder, which knows nothing of this project: both the
    /// nested struct and the order of its type string.
    function test_TheFixturesHashesAreForges() public view {
        bytes32 id = keccak256("channel");
        IUsageSettlement.ReceiptRow memory row;
        row.sequence = 7;
        row.cumulativeInputTokens = 4096;
        row.cumulativeOutputTokens = 1024;
        row.cumulativeAmount = 40e6;
        row.previousReceipt = keccak256("previous");
        row.billHash = billHashOf(id, 5e6);
        assertEq(
            vm.eip712HashTypedData(typedReceipt(id, row)),
            settlement.getReceiptDigest(id, 7, 4096, 1024, 40e6, row.previousReceipt, row.billHash)
        );
    }

    function typedReceipt(bytes32 id, IUsageSettlement.ReceiptRow memory row) private view returns (string memory) {
        string memory bill = string.concat(
            '{"channelId":"',
            vm.toString(id),
            '","requestHash":"',
            vm.toString(keccak256("request")),
            '","responseHash":"',
            vm.toString(keccak256("response")),
            '","inputTokens":1200,"outputTokens":340,"amount":"5000000","completedAt":1800000000}'
        );
        string memory message = string.concat(
            '{"channelId":"',
            vm.toString(id),
            '","sequence":7,"cumulativeInputTokens":4096,"cumulativeOutputTokens":1024,"cumulativeAmount":"40000000","previousReceipt":"',
            vm.toString(row.previousReceipt),
            '","bill":',
            bill,
            "}"
        );
        string memory domain = string.concat(
            '{"name":"Lloom","version":"1","chainId":',
            vm.toString(block.chainid),
            ',"verifyingContract":"',
            vm.toString(address(settlement)),
            '"}'
        );
        string memory billType =
            '"UsageBill":[{"name":"channelId","type":"bytes32"},{"name":"requestHash","type":"bytes32"},{"name":"responseHash","type":"bytes32"},{"name":"inputTokens","type":"uint32"},{"name":"outputTokens","type":"uint32"},{"name":"amount","type":"uint128"},{"name":"completedAt","type":"uint64"}]';
        string memory receiptType =
            '"UsageReceipt":[{"name":"channelId","type":"bytes32"},{"name":"sequence","type":"uint64"},{"name":"cumulativeInputTokens","type":"uint64"},{"name":"cumulativeOutputTokens","type":"uint64"},{"name":"cumulativeAmount","type":"uint128"},{"name":"previousReceipt","type":"bytes32"},{"name":"bill","type":"UsageBill"}]';
        string memory domainType =
            '"EIP712Domain":[{"name":"name","type":"string"},{"name":"version","type":"string"},{"name":"chainId","type":"uint256"},{"name":"verifyingContract","type":"address"}]';
        return string.concat(
            '{"types":{',
            domainType,
            ",",
            receiptType,
            ",",
            billType,
            '},"primaryType":"UsageReceipt","domain":',
            domain,
            ',"message":',
            message,
            "}"
        );
    }
}
