// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "../Fixture.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";

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

    /// @dev Any order, any distance: those that were used are, and no other is.
    function testFuzz_NoncesAreUsedOneByOne(uint256[6] memory nonces, uint256 other) public {
        bytes32 id = openChannel();
        for (uint256 i = 0; i < nonces.length; ++i) {
            if (i % 2 == 1) nonces[i] = uint256(keccak256(abi.encode(nonces[i - 1]))) % 512; // some share a word
            if (escrow.isNonceUsed(payer.addr, id, nonces[i])) continue;
            bytes memory signature = sign(payer, escrowDomain(), requestCloseHash(id, nonces[i], block.timestamp));
            escrow.requestCloseWithAuthorization(id, nonces[i], block.timestamp, signature);
        }
        bool used;
        for (uint256 i = 0; i < nonces.length; ++i) {
            assertTrue(escrow.isNonceUsed(payer.addr, id, nonces[i]));
            used = used || nonces[i] == other;
        }
        assertEq(escrow.isNonceUsed(payer.addr, id, other), used);
        assertFalse(escrow.isNonceUsed(stranger, id, nonces[0]));
        assertFalse(escrow.isNonceUsed(payer.addr, 0, nonces[0]));
    }

    /// @dev Draft, "Contract Functions": the mandatory core and all of the relayed profile, as its text declares them.
    function test_TheFunctionsAreTheDrafts() public pure {
        assertEq(IChannelEscrow.open.selector, bytes4(keccak256("open(address,address,uint128,bytes32,address)")));
        assertEq(IChannelEscrow.settle.selector, bytes4(keccak256("settle(bytes32,uint128,bytes)")));
        assertEq(IChannelEscrow.topUp.selector, bytes4(keccak256("topUp(bytes32,uint128)")));
        assertEq(IChannelEscrow.close.selector, bytes4(keccak256("close(bytes32,uint128,bytes)")));
        assertEq(IChannelEscrow.requestClose.selector, bytes4(keccak256("requestClose(bytes32)")));
        assertEq(IChannelEscrow.withdraw.selector, bytes4(keccak256("withdraw(bytes32)")));
        assertEq(
            IRelayedChannels.openWithAuthorization.selector,
            bytes4(
                keccak256(
                    "openWithAuthorization(address,address,uint128,bytes32,address,address,uint256,uint256,bytes32,bytes)"
                )
            )
        );
        assertEq(
            IRelayedChannels.topUpWithAuthorization.selector,
            bytes4(keccak256("topUpWithAuthorization(bytes32,uint128,address,bytes32,uint256,uint256,bytes32,bytes)"))
        );
        assertEq(
            IRelayedChannels.openWithPermit2.selector,
            bytes4(keccak256("openWithPermit2(address,address,uint128,bytes32,address,address,uint256,uint256,bytes)"))
        );
        assertEq(
            IRelayedChannels.topUpWithPermit2.selector,
            bytes4(keccak256("topUpWithPermit2(bytes32,uint128,address,uint256,uint256,bytes)"))
        );
        assertEq(
            IRelayedChannels.settleWithAuthorization.selector,
            bytes4(keccak256("settleWithAuthorization(bytes32,uint128,uint256,uint256,bytes,bytes)"))
        );
        assertEq(
            IRelayedChannels.closeWithAuthorization.selector,
            bytes4(keccak256("closeWithAuthorization(bytes32,uint128,uint256,uint256,bytes,bytes)"))
        );
    }

    /// @dev Draft, "Forced Close": ten minutes at least.
    function test_GraceIsLongEnough() public view {
        assertGe(escrow.CLOSE_GRACE_PERIOD(), 10 minutes);
    }
}
