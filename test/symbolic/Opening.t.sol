// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {SymbolicFixture} from "./SymbolicFixture.sol";
import {both} from "./Truth.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";

/// @notice The ways to open a channel, under an id that is free: any other id reverts at once.
/// Assumed besides: the list of destinations is sound. That is: a pair has no index, or that of an entry which holds it.
/// Neither zero nor the escrow is ever listed as a payee.
contract OpeningTest is SymbolicFixture {
    function check_Open(uint128 amount) public {
        (address payee, address signer) = (anyAddress("payee"), anySigner());
        (bytes32 id, State memory before) = start(FIRST, payee, signer);
        vm.prank(FIRST);
        escrow.open(payee, address(token), amount, SALT, signer);
        assertOpened(before, id, payee);
    }

    function check_OpenFromBalance(uint128 amount) public {
        (address payee, address signer) = (anyAddress("payee"), anySigner());
        (bytes32 id, State memory before) = start(FIRST, payee, signer);
        vm.prank(FIRST);
        escrow.openFromBalance(payee, address(token), amount, SALT, signer);
        assertOpened(before, id, payee);
    }

    function check_OpenWithAuthorization(uint128 amount) public {
        (address from, address payee, address signer) = (anyPayer(), anyAddress("payee"), anySigner());
        bytes memory signature = SVM.createBytes(65, "signature");
        bytes32 nonce = keccak256(abi.encode(from, payee, address(token), SALT, signer));
        (bytes32 id, State memory before) = start(from, payee, signer);
        escrow.openWithAuthorization(
            payee, address(token), amount, SALT, signer, from, 0, type(uint256).max, nonce, signature
        );
        assertOpened(before, id, payee);
    }

    function check_OpenWithPermit2(uint128 amount, uint256 nonce, uint256 deadline) public {
        (address from, address payee, address signer) = (anyPayer(), anyAddress("payee"), anySigner());
        bytes memory signature = SVM.createBytes(65, "signature");
        (bytes32 id, State memory before) = start(from, payee, signer);
        escrow.openWithPermit2(payee, address(token), amount, SALT, signer, from, nonce, deadline, signature);
        assertOpened(before, id, payee);
    }

    /// @dev Not by the escrow, to which a signature may be ascribed here: nobody has a key of its address.
    function check_OpenWithGrant(uint128 amount, uint64 deadline) public {
        (address from, address payee, address signer) = (FIRST, anyAddress("payee"), anySigner());
        bytes memory signature = SVM.createBytes(65, "signature");
        (bytes32 id, State memory before) = start(from, payee, signer);
        escrow.openWithGrant(
            IRelayedChannels.ChannelGrant(from, payee, address(token), amount, SALT, signer, deadline), signature
        );
        assertOpened(before, id, payee);
    }

    /// @dev Who pays and does not call: an account, the escrow or nobody.
    function anyPayer() private view returns (address) {
        uint256 choice = SVM.createUint(8, "payer");
        if (choice == 0) return FIRST;
        if (choice == 1) return address(escrow);
        return address(0);
    }

    function start(address payer, address payee, address signer) private returns (bytes32 id, State memory before) {
        id = escrow.computeChannelId(payer, payee, address(token), SALT, signer);
        assumeNoChannel(id);
        assumeListed(payee);
        before = observe(id);
    }

    /// @dev The list holds what the channel was opened with, and is sound for this pair as it is for every other.
    function assertOpened(State memory before, bytes32 id, address payee) private view {
        assertStep(before, id);
        IChannelEscrow.Channel memory channel = escrow.getChannel(id);
        assert(both(channel.payee == payee, channel.token == address(token)));
        assert(isListed(payee));
    }
}
