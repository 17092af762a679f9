// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "../Fixture.sol";
import {IERC3009, IERC3009Cancel} from "@openzeppelin/contracts/interfaces/draft-IERC3009.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";

contract DevTokenTest is Fixture {
    bytes32 private constant NONCE = keccak256("nonce");

    function sign(string memory type_, address to, uint256 validAfter, uint256 validBefore)
        private
        view
        returns (uint8 v, bytes32 r, bytes32 s)
    {
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256(
                    bytes.concat(
                        bytes(type_),
                        "(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
                    )
                ),
                payer.addr,
                to,
                25e6,
                validAfter,
                validBefore,
                NONCE
            )
        );
        return vm.sign(payer.key, typedDigest(domainOf("Lloom Dev Token", address(token)), structHash));
    }

    function test_IsLikeUsdcAndFreeForAll() public {
        assertEq(token.decimals(), 6);
        assertEq(token.name(), "Lloom Dev Token");
        assertEq(token.symbol(), "LDEV");
        vm.prank(stranger);
        token.mint(stranger, 5e6);
        assertEq(token.balanceOf(stranger), 5e6);
    }

    function test_TransfersWithAuthorizationInBothForms() public {
        (uint8 v, bytes32 r, bytes32 s) =
            sign("TransferWithAuthorization", stranger, block.timestamp - 1, block.timestamp + 1);
        uint256 snapshot = vm.snapshotState();

        vm.expectEmit(address(token));
        emit IERC3009.AuthorizationUsed(payer.addr, NONCE);
        token.transferWithAuthorization(
            payer.addr, stranger, 25e6, block.timestamp - 1, block.timestamp + 1, NONCE, v, r, s
        );
        assertEq(token.balanceOf(stranger), 25e6);
        assertTrue(token.authorizationState(payer.addr, NONCE));
        vm.revertToState(snapshot);

        token.transferWithAuthorization(
            payer.addr, stranger, 25e6, block.timestamp - 1, block.timestamp + 1, NONCE, abi.encodePacked(r, s, v)
        );
        assertEq(token.balanceOf(stranger), 25e6);
    }

    function test_TheReceiverAloneReceivesWithAuthorization() public {
        (uint8 v, bytes32 r, bytes32 s) =
            sign("ReceiveWithAuthorization", stranger, block.timestamp - 1, block.timestamp + 1);
        bytes memory signature = abi.encodePacked(r, s, v);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InvalidReceiver.selector, stranger));
        token.receiveWithAuthorization(
            payer.addr, stranger, 25e6, block.timestamp - 1, block.timestamp + 1, NONCE, signature
        );
        vm.startPrank(stranger);
        token.receiveWithAuthorization(
            payer.addr, stranger, 25e6, block.timestamp - 1, block.timestamp + 1, NONCE, signature
        );
        assertEq(token.balanceOf(stranger), 25e6);

        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009UsedAuthorization.selector, payer.addr, NONCE));
        token.receiveWithAuthorization(
            payer.addr, stranger, 25e6, block.timestamp - 1, block.timestamp + 1, NONCE, v, r, s
        );
    }

    function test_RevertWhen_TheSignatureIsOfAnotherKindOrLength() public {
        (uint8 v, bytes32 r, bytes32 s) =
            sign("TransferWithAuthorization", stranger, block.timestamp - 1, block.timestamp + 1);
        vm.startPrank(stranger);
        vm.expectRevert(ERC3009.ERC3009InvalidSignature.selector);
        token.receiveWithAuthorization(
            payer.addr, stranger, 25e6, block.timestamp - 1, block.timestamp + 1, NONCE, abi.encodePacked(r, s, v)
        );
        vm.expectRevert();
        token.receiveWithAuthorization(
            payer.addr, stranger, 25e6, block.timestamp - 1, block.timestamp + 1, NONCE, abi.encodePacked(r, s)
        );
    }

    function test_RevertWhen_NotValidYetOrNoLonger() public {
        uint256[2] memory moments = [block.timestamp - 10, block.timestamp + 20];
        (uint256 from, uint256 until) = (block.timestamp, block.timestamp + 10);
        (uint8 v, bytes32 r, bytes32 s) = sign("TransferWithAuthorization", stranger, from, until);
        for (uint256 i = 0; i < moments.length; ++i) {
            vm.warp(moments[i]);
            vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009InvalidAuthorizationTime.selector, from, until));
            token.transferWithAuthorization(payer.addr, stranger, 25e6, from, until, NONCE, v, r, s);
        }
    }

    function test_CancelsAnAuthorization() public {
        bytes32 structHash = keccak256(
            abi.encode(keccak256("CancelAuthorization(address authorizer,bytes32 nonce)"), payer.addr, NONCE)
        );
        (uint8 v, bytes32 r, bytes32 s) =
            vm.sign(payer.key, typedDigest(domainOf("Lloom Dev Token", address(token)), structHash));
        vm.expectEmit(address(token));
        emit IERC3009Cancel.AuthorizationCanceled(payer.addr, NONCE);
        token.cancelAuthorization(payer.addr, NONCE, v, r, s);

        (v, r, s) = sign("TransferWithAuthorization", stranger, block.timestamp - 1, block.timestamp + 1);
        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009UsedAuthorization.selector, payer.addr, NONCE));
        token.transferWithAuthorization(
            payer.addr, stranger, 25e6, block.timestamp - 1, block.timestamp + 1, NONCE, v, r, s
        );
    }
}
