// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "./Fixture.sol";
import {MinimalPermit2} from "./permit2/MinimalPermit2.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";
import {IERC3009} from "lloom/interfaces/external/IERC3009.sol";

/// @notice The calls that anyone may submit on a signature of a token's or of Permit2's, with good signatures of the
/// payer's, as structs to change and as call data. Nonces and digests are computed here from the draft's text.
abstract contract RelayedFixture is Fixture {
    bytes4 internal constant RECEIVE_SELECTOR = IERC3009.receiveWithAuthorization.selector;
    address internal constant PERMIT2 = 0x000000000022D473030F116dDEE9F6B43aC78BA3;

    struct OpenCall {
        address payee;
        address token;
        uint128 deposit;
        bytes32 salt;
        address authorizedSigner;
        address from;
        uint256 validAfter;
        uint256 validBefore;
        bytes32 nonce;
        bytes signature;
    }

    struct TopUpCall {
        bytes32 channelId;
        uint128 additionalDeposit;
        address from;
        bytes32 topUpSalt;
        uint256 validAfter;
        uint256 validBefore;
        bytes32 nonce;
        bytes signature;
    }

    struct DepositCall {
        address token;
        uint256 amount;
        address from;
        bytes32 depositSalt;
        uint256 validAfter;
        uint256 validBefore;
        bytes32 nonce;
        bytes signature;
    }

    struct Permit2OpenCall {
        address payee;
        address token;
        uint128 deposit;
        bytes32 salt;
        address authorizedSigner;
        address from;
        uint256 nonce;
        uint256 deadline;
        bytes signature;
    }

    struct Permit2TopUpCall {
        bytes32 channelId;
        uint128 additionalDeposit;
        address from;
        uint256 nonce;
        uint256 deadline;
        bytes signature;
    }

    // --- Calling ---

    /// @dev By nobody in particular.
    function submit(bytes memory call) internal returns (bool success, bytes memory answer) {
        vm.prank(stranger);
        (success, answer) = address(escrow).call(call);
    }

    function assertTaken(bytes memory call) internal {
        (bool success, bytes memory answer) = submit(call);
        assertTrue(success, vm.toString(answer));
    }

    /// @dev With this error, whatever its arguments.
    function assertRefused(bytes memory call, bytes4 expected) internal {
        (bool success, bytes memory answer) = submit(call);
        assertFalse(success, "taken");
        assertEq(bytes4(answer), expected, vm.toString(answer));
    }

    /// @dev The same call with one bit of an argument changed.
    function tampered(bytes memory call, uint256 argument) internal pure returns (bytes memory other) {
        other = bytes.concat(call);
        other[4 + 32 * argument + 31] ^= 0x01;
    }

    // --- EIP-3009 ---

    /// @dev The token's own type and domain. `to` is the escrow.
    function signReceive(Account memory by, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce)
        internal
        view
        returns (bytes memory)
    {
        bytes32 typeHash = keccak256(
            "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
        );
        bytes32 structHash =
            keccak256(abi.encode(typeHash, by.addr, address(escrow), value, validAfter, validBefore, nonce));
        return sign(by, domainOf("Lloom Dev Token", address(token)), structHash);
    }

    /// @dev A channel of `DEPOSIT` under `SALT`, from the wallet of `by`.
    function openCall(Account memory by) internal view returns (OpenCall memory) {
        OpenCall memory call;
        (call.payee, call.token, call.deposit, call.salt) = (payee.addr, address(token), DEPOSIT, SALT);
        (call.from, call.validBefore) = (by.addr, type(uint256).max);
        call.nonce = openNonce(call);
        return signed(call, by);
    }

    function signed(OpenCall memory call, Account memory by) internal view returns (OpenCall memory) {
        call.signature = signReceive(by, call.deposit, call.validAfter, call.validBefore, call.nonce);
        return call;
    }

    function openNonce(OpenCall memory call) internal pure returns (bytes32) {
        return keccak256(abi.encode(call.from, call.payee, call.token, call.salt, call.authorizedSigner));
    }

    function encode(OpenCall memory call) internal pure returns (bytes memory) {
        return abi.encodeCall(
            IRelayedChannels.openWithAuthorization,
            (
                call.payee,
                call.token,
                call.deposit,
                call.salt,
                call.authorizedSigner,
                call.from,
                call.validAfter,
                call.validBefore,
                call.nonce,
                call.signature
            )
        );
    }

    function topUpCall(Account memory by, bytes32 id, uint128 amount) internal view returns (TopUpCall memory) {
        TopUpCall memory call;
        (call.channelId, call.additionalDeposit, call.from, call.topUpSalt) = (id, amount, by.addr, SALT);
        call.validBefore = type(uint256).max;
        call.nonce = topUpNonce(call);
        return signed(call, by);
    }

    function signed(TopUpCall memory call, Account memory by) internal view returns (TopUpCall memory) {
        call.signature = signReceive(by, call.additionalDeposit, call.validAfter, call.validBefore, call.nonce);
        return call;
    }

    function topUpNonce(TopUpCall memory call) internal pure returns (bytes32) {
        return keccak256(abi.encode(call.channelId, call.additionalDeposit, call.from, call.topUpSalt));
    }

    function encode(TopUpCall memory call) internal pure returns (bytes memory) {
        return abi.encodeCall(
            IRelayedChannels.topUpWithAuthorization,
            (
                call.channelId,
                call.additionalDeposit,
                call.from,
                call.topUpSalt,
                call.validAfter,
                call.validBefore,
                call.nonce,
                call.signature
            )
        );
    }

    function depositCall(Account memory by, uint256 amount) internal view returns (DepositCall memory) {
        DepositCall memory call;
        (call.token, call.amount, call.from, call.depositSalt) = (address(token), amount, by.addr, SALT);
        call.validBefore = type(uint256).max;
        call.nonce = depositNonce(call);
        return signed(call, by);
    }

    function signed(DepositCall memory call, Account memory by) internal view returns (DepositCall memory) {
        call.signature = signReceive(by, call.amount, call.validAfter, call.validBefore, call.nonce);
        return call;
    }

    function depositNonce(DepositCall memory call) internal pure returns (bytes32) {
        return keccak256(abi.encode(call.from, call.token, call.depositSalt));
    }

    function encode(DepositCall memory call) internal pure returns (bytes memory) {
        return abi.encodeCall(
            IRelayedChannels.depositWithAuthorization,
            (
                call.token,
                call.amount,
                call.from,
                call.depositSalt,
                call.validAfter,
                call.validBefore,
                call.nonce,
                call.signature
            )
        );
    }

    // --- Permit2 ---

    /// @dev Every chain's Permit2 is at this address, so it is put there and not deployed.
    function placePermit2() internal {
        vm.etch(PERMIT2, type(MinimalPermit2).runtimeCode);
    }

    /// @dev The payer's unlimited approval that Permit2 lives by.
    function approvePermit2(address account) internal {
        vm.prank(account);
        token.approve(PERMIT2, type(uint256).max);
    }

    function permit2Digest(string memory type_, uint256 amount, uint256 nonce, uint256 deadline, bytes32 witness)
        internal
        view
        returns (bytes32)
    {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,uint256 chainId,address verifyingContract)"),
                keccak256("Permit2"),
                block.chainid,
                PERMIT2
            )
        );
        bytes32 permitted =
            keccak256(abi.encode(keccak256("TokenPermissions(address token,uint256 amount)"), address(token), amount));
        bytes32 structHash =
            keccak256(abi.encode(keccak256(bytes(type_)), permitted, address(escrow), nonce, deadline, witness));
        return typedDigest(domain, structHash);
    }

    function permit2Digest(Permit2OpenCall memory call) internal view returns (bytes32) {
        bytes32 witness = keccak256(
            abi.encode(
                keccak256("ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)"),
                call.payee,
                call.salt,
                call.authorizedSigner
            )
        );
        return permit2Digest(
            "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,ChannelOpenWitness witness)ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)TokenPermissions(address token,uint256 amount)",
            call.deposit,
            call.nonce,
            call.deadline,
            witness
        );
    }

    function permit2Digest(Permit2TopUpCall memory call) internal view returns (bytes32) {
        return permit2Digest(
            "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,ChannelTopUpWitness witness)ChannelTopUpWitness(bytes32 channelId)TokenPermissions(address token,uint256 amount)",
            call.additionalDeposit,
            call.nonce,
            call.deadline,
            keccak256(abi.encode(keccak256("ChannelTopUpWitness(bytes32 channelId)"), call.channelId))
        );
    }

    function packed(Account memory by, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(by.key, digest);
        return abi.encodePacked(r, s, v);
    }

    function permit2OpenCall(Account memory by) internal view returns (Permit2OpenCall memory call) {
        (call.payee, call.token, call.deposit, call.salt) = (payee.addr, address(token), DEPOSIT, SALT);
        (call.from, call.nonce, call.deadline) = (by.addr, 7, block.timestamp);
        call.signature = packed(by, permit2Digest(call));
    }

    function encode(Permit2OpenCall memory call) internal pure returns (bytes memory) {
        return abi.encodeCall(
            IRelayedChannels.openWithPermit2,
            (
                call.payee,
                call.token,
                call.deposit,
                call.salt,
                call.authorizedSigner,
                call.from,
                call.nonce,
                call.deadline,
                call.signature
            )
        );
    }

    function permit2TopUpCall(Account memory by, bytes32 id, uint128 amount)
        internal
        view
        returns (Permit2TopUpCall memory call)
    {
        (call.channelId, call.additionalDeposit, call.from) = (id, amount, by.addr);
        (call.nonce, call.deadline) = (8, block.timestamp);
        call.signature = packed(by, permit2Digest(call));
    }

    function encode(Permit2TopUpCall memory call) internal pure returns (bytes memory) {
        return abi.encodeCall(
            IRelayedChannels.topUpWithPermit2,
            (call.channelId, call.additionalDeposit, call.from, call.nonce, call.deadline, call.signature)
        );
    }

    // --- What nobody but the signer may change ---

    /// @dev A channel, and who holds how much of the token: equal before and after a call that does nothing.
    function stateOf(bytes32 id) internal view returns (bytes32) {
        return keccak256(
            abi.encode(
                escrow.getChannel(id),
                token.balanceOf(address(escrow)),
                token.balanceOf(payer.addr),
                token.balanceOf(payee.addr),
                escrow.balanceOf(payer.addr, address(token)),
                escrow.balanceOf(payee.addr, address(token))
            )
        );
    }
}
