// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {RelayedFixture} from "../RelayedFixture.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";

contract InvalidateNonceTest is RelayedFixture {
    uint256 private constant NONCE = 5;

    function invalidateAs(address account, bytes32 id, uint256 nonce) private {
        vm.prank(account);
        escrow.invalidateNonce(id, nonce);
    }

    function requestClose(bytes32 id, uint256 nonce) private view returns (bytes memory) {
        bytes memory signature = sign(payer, escrowDomain(), requestCloseHash(id, nonce, block.timestamp));
        return abi.encodeCall(IRelayedChannels.requestCloseWithAuthorization, (id, nonce, block.timestamp, signature));
    }

    function close(bytes32 id, uint256 nonce) private view returns (bytes memory) {
        bytes memory signature = sign(payee, escrowDomain(), closeHash(id, 0, nonce, block.timestamp));
        return abi.encodeCall(IRelayedChannels.closeWithAuthorization, (id, 0, nonce, block.timestamp, signature, ""));
    }

    function test_TakesBackWhatThePayerSigned() public {
        bytes32 id = openChannel();
        invalidateAs(payer.addr, id, NONCE);
        assertTrue(escrow.isNonceUsed(payer.addr, id, NONCE));
        assertRefused(requestClose(id, NONCE), IRelayedChannels.NonceAlreadyUsed.selector);
        assertTaken(requestClose(id, NONCE + 1));
    }

    function test_TakesBackWhatThePayeeSigned() public {
        bytes32 id = openChannel();
        invalidateAs(payee.addr, id, NONCE);
        assertRefused(close(id, NONCE), IRelayedChannels.NonceAlreadyUsed.selector);
        assertTaken(close(id, NONCE + 1));
    }

    /// @dev Anyone may use up nonces: its own, and for that channel.
    function testFuzz_TouchesNobodyElsesNorAnotherChannels(address caller, bytes32 channelId, uint256 nonce) public {
        vm.assume(caller != payer.addr && caller != payee.addr);
        bytes32 id = openChannel();
        vm.assume(channelId != id);
        invalidateAs(caller, id, nonce);
        invalidateAs(payer.addr, channelId, nonce);
        assertFalse(escrow.isNonceUsed(payer.addr, id, nonce));
        assertFalse(escrow.isNonceUsed(payee.addr, id, nonce));
        assertTaken(requestClose(id, nonce));
    }

    function testFuzz_TouchesNoOtherNonce(uint256 nonce, uint256 other) public {
        vm.assume(nonce != other);
        bytes32 id = openChannel();
        invalidateAs(payer.addr, id, nonce);
        assertFalse(escrow.isNonceUsed(payer.addr, id, other));
    }

    function test_RevertWhen_TheNonceIsUsed() public {
        bytes32 id = openChannel();
        assertTaken(requestClose(id, NONCE));
        vm.prank(payer.addr);
        vm.expectRevert(IRelayedChannels.NonceAlreadyUsed.selector);
        escrow.invalidateNonce(id, NONCE);

        invalidateAs(payer.addr, id, 0);
        vm.prank(payer.addr);
        vm.expectRevert(IRelayedChannels.NonceAlreadyUsed.selector);
        escrow.invalidateNonce(id, 0);
    }
}
