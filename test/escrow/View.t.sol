// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "../Fixture.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";

/// @notice Ids and digests against the ones computed here, and what can be read of a channel.
contract ViewTest is Fixture {
    function testFuzz_ChannelIdIsTheDrafts(
        address from,
        address to,
        address asset,
        bytes32 salt,
        address by,
        uint32 chain
    ) public {
        vm.chainId(uint256(chain) + 1);
        assertEq(escrow.computeChannelId(from, to, asset, salt, by), channelIdOf(from, to, asset, salt, by));
    }

    function testFuzz_VoucherDigestIsTheDrafts(bytes32 id, uint128 amount, uint32 chain) public {
        vm.chainId(uint256(chain) + 1);
        assertEq(escrow.getVoucherDigest(id, amount), voucherDigest(id, amount));
        assertEq(escrow.domainSeparator(), escrowDomain());
    }

    function test_AnUnknownChannelIsAllZero() public view {
        IChannelEscrow.Channel memory nothing;
        assertEq(abi.encode(escrow.getChannel(keccak256("unknown"))), abi.encode(nothing));
    }

    function test_ABatchReadsAsOneByOne() public {
        bytes32[] memory ids = new bytes32[](3);
        ids[0] = openChannel();
        ids[1] = keccak256("unknown");
        vm.prank(payer.addr);
        ids[2] = escrow.open(payee.addr, address(token), 7, bytes32(0), signer.addr);
        closeAs(payee.addr, ids[0], 5);

        IChannelEscrow.Channel[] memory channels = escrow.getChannelsBatch(ids);
        assertEq(channels.length, 3);
        for (uint256 i = 0; i < 3; ++i) {
            assertEq(abi.encode(channels[i]), abi.encode(escrow.getChannel(ids[i])));
        }
        assertEq(escrow.getChannelsBatch(new bytes32[](0)).length, 0);
    }
}
