// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {ILloomDeployer} from "../ILloomDeployer.sol";
import {SignedCalls} from "../SignedCalls.sol";
import {MinimalPermit2} from "../permit2/MinimalPermit2.sol";
import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IUsageSettlement} from "lloom/interfaces/IUsageSettlement.sol";

/// @notice What is signed for one chain, one deployment, one channel and one kind is good for nothing else.
contract ReplayTest is SignedCalls {
    uint256 private constant ELSEWHERE = 8453;

    /// @dev Draft, "Domain binding" and "Cross-Chain Replay". The chain splits after the channel was opened, so that the
    /// channel exists on both sides.
    function test_NothingIsGoodOnAnotherChain() public {
        bytes32 id = prepare();
        bytes[] memory calls = new bytes[](KINDS);
        for (uint256 i = 0; i < KINDS; ++i) {
            calls[i] = callOf(Kind(i), id, keySignature(Kind(i), id));
        }
        vm.chainId(ELSEWHERE);
        for (uint256 i = 0; i < KINDS; ++i) {
            assertUnsigned(Kind(i), id, calls[i]);
        }
    }

    /// @dev A second escrow, with a channel of the same parties: another id, and another domain.
    function test_NothingIsGoodInAnotherEscrow() public {
        bytes32 id = prepare();
        bytes[] memory signatures = new bytes[](KINDS);
        for (uint256 i = 0; i < KINDS; ++i) {
            signatures[i] = keySignature(Kind(i), id);
        }
        escrow = ILloomDeployer(deployCode("LloomDeployer")).ESCROW();
        bytes32 other = prepare();
        assertNotEq(other, id);
        for (uint256 i = 0; i < KINDS; ++i) {
            assertUnsigned(Kind(i), other, callOf(Kind(i), other, signatures[i]));
        }
    }

    /// @dev The domain alone keeps them apart: here everything else that is signed is the other escrow's, id included.
    function test_NothingSignedInAnotherDomainIsGood() public {
        bytes32 id = prepare();
        bytes32[4] memory domains = [
            settlementDomain(),
            domainOf("EVM Payment Channel", address(settlement)),
            domainOf("EVM Payment Channel ", address(escrow)),
            domainOf("Lloom Dev Token", address(token))
        ];
        for (uint256 i = 0; i < KINDS; ++i) {
            Kind kind = Kind(i);
            for (uint256 j = 0; j < domains.length; ++j) {
                bytes memory signature =
                    packed(isPayees(kind) ? payee : payer, typedDigest(domains[j], structHashOf(kind, id)));
                assertUnsigned(kind, id, callOf(kind, id, signature));
            }
        }
    }

    function test_NothingIsGoodForAnotherChannel() public {
        bytes32 id = prepare();
        vm.prank(payer.addr);
        bytes32 other = escrow.open(payee.addr, address(token), DEPOSIT, bytes32(uint256(1)), address(0));
        for (uint256 i = 0; i < KINDS; ++i) {
            Kind kind = Kind(i);
            if (kind == Kind.OpenWithGrant) continue; // its channel is its fields
            assertUnsigned(kind, id, callOf(kind, id, keySignature(kind, other)));
        }
    }

    /// @dev A payee's authorization to settle is none to close, though both sign the same four values.
    function test_APayeesAuthorizationIsOfOneKind() public {
        bytes32 id = prepare();
        assertUnsigned(
            Kind.CloseOnPayeesSignature,
            id,
            callOf(Kind.CloseOnPayeesSignature, id, keySignature(Kind.SettleOnPayeesSignature, id))
        );
        assertUnsigned(
            Kind.SettleOnPayeesSignature,
            id,
            callOf(Kind.SettleOnPayeesSignature, id, keySignature(Kind.CloseOnPayeesSignature, id))
        );
    }

    /// @dev Receipts and bills likewise, by the settlement's domain.
    function test_NoReceiptIsGoodElsewhere() public {
        prepare();
        IUsageSettlement.ReceiptRow memory row = receiptRow(AMOUNT);
        uint256 snapshot = vm.snapshotState();
        vm.chainId(ELSEWHERE);
        assertNoReceipt(row);
        vm.revertToState(snapshot);

        ILloomDeployer deployer = ILloomDeployer(deployCode("LloomDeployer"));
        (escrow, settlement) = (deployer.ESCROW(), deployer.SETTLEMENT());
        prepare();
        assertNoReceipt(row);
    }

    function assertNoReceipt(IUsageSettlement.ReceiptRow memory row) private {
        uint256 held = token.balanceOf(payee.addr);
        vm.startPrank(payee.addr);
        settlement.claimReceipts(payee.addr, address(token), rowsOf(row));
        vm.expectRevert(IUsageSettlement.InvalidSignature.selector);
        settlement.closeWithReceipt(payee.addr, address(token), row);
        vm.stopPrank();
        assertEq(token.balanceOf(payee.addr), held);
    }

    /// @dev The token's domain and Permit2's have the chain in them, too, and `to` and `spender` the escrow.
    function test_NoMoneyComesOnASignatureForElsewhere() public {
        placePermit2();
        approvePermit2(payer.addr);
        (bytes memory open, bytes memory deposit_, bytes memory permit) =
            (encode(openCall(payer)), encode(depositCall(payer, 1)), encode(permit2OpenCall(payer)));
        uint256 snapshot = vm.snapshotState();
        vm.chainId(ELSEWHERE);
        assertRefused(open, ERC3009.ERC3009InvalidSignature.selector);
        assertRefused(deposit_, ERC3009.ERC3009InvalidSignature.selector);
        assertRefused(permit, MinimalPermit2.InvalidSigner.selector);
        vm.revertToState(snapshot);

        escrow = ILloomDeployer(deployCode("LloomDeployer")).ESCROW();
        assertRefused(open, ERC3009.ERC3009InvalidSignature.selector);
        assertRefused(deposit_, ERC3009.ERC3009InvalidSignature.selector);
        assertRefused(permit, MinimalPermit2.InvalidSigner.selector);
        assertEq(token.balanceOf(address(escrow)), 0);
    }

    function test_AGrantIsGoodOnce() public {
        bytes32 id = prepare();
        bytes memory open = callOf(Kind.OpenWithGrant, id, keySignature(Kind.OpenWithGrant, id));
        assertTaken(open);
        assertRefused(open, IChannelEscrow.ChannelAlreadyExists.selector);
        vm.prank(payer.addr);
        escrow.deposit(address(token), 50e6);
        bytes memory topUp = callOf(Kind.TopUpWithGrant, id, keySignature(Kind.TopUpWithGrant, id));
        assertTaken(topUp);
        assertRefused(topUp, IChannelEscrow.ZeroDeposit.selector);
        closeAs(payee.addr, id, 0);
        assertRefused(topUp, IChannelEscrow.ChannelFinalized.selector);
    }
}
