// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "../Fixture.sol";
import {BurningSigner, ChoosingSigner, WritingSigner} from "../adversary/Signers.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";

/// @notice What counts as the payer side's signature in `settle` and `close`.
contract SignatureTest is Fixture {
    uint256 private constant ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
    bytes32 private constant MAGIC = bytes32(bytes4(0x1626ba7e));

    function expectRefused(bytes32 id, bytes memory signature) private {
        vm.prank(payee.addr);
        vm.expectRevert(IChannelEscrow.InvalidSignature.selector);
        escrow.settle(id, 10e6, signature);
    }

    function expectTaken(bytes32 id, bytes memory signature) private {
        vm.prank(payee.addr);
        escrow.settle(id, 10e6, signature);
        assertEq(settledOf(id), 10e6);
    }

    // --- Keys ---

    function test_TakesTheCompactForm() public {
        bytes32 id = openChannel();
        (bytes32 r, bytes32 vs) = vm.signCompact(payer.key, voucherDigest(id, 10e6));
        expectTaken(id, abi.encodePacked(r, vs));
    }

    function testFuzz_TakesAnyKeysSignature(uint256 key, uint128 amount) public {
        key = bound(key, 1, ORDER - 1);
        amount = uint128(bound(amount, 1, DEPOSIT));
        bytes32 id = openChannelWithSigner(vm.addr(key));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, voucherDigest(id, amount));
        vm.prank(payee.addr);
        escrow.settle(id, amount, abi.encodePacked(r, s, v));
        assertEq(settledOf(id), amount);
    }

    function test_RevertWhen_SIsInTheUpperHalf() public {
        bytes32 id = openChannel();
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(payer.key, voucherDigest(id, 10e6));
        expectRefused(id, abi.encodePacked(r, bytes32(ORDER - uint256(s)), v == 27 ? uint8(28) : uint8(27)));
    }

    function test_RevertWhen_VIsNot27Or28() public {
        bytes32 id = openChannel();
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(payer.key, voucherDigest(id, 10e6));
        expectRefused(id, abi.encodePacked(r, s, v - 27));
        expectRefused(id, abi.encodePacked(r, s, v + 2));
    }

    function test_RevertWhen_LengthIsNeither64Nor65() public {
        bytes32 id = openChannel();
        bytes memory good = signVoucher(payer, id, 10e6);
        expectRefused(id, "");
        expectRefused(id, bytes.concat(good, hex"00"));
        expectRefused(id, new bytes(63));
        expectRefused(id, new bytes(64));
        expectRefused(id, new bytes(65));
    }

    function testFuzz_RevertWhen_ABitIsFlipped(uint256 bit) public {
        bytes32 id = openChannel();
        bytes memory signature = signVoucher(payer, id, 10e6);
        bit = bound(bit, 0, 65 * 8 - 1);
        signature[bit / 8] ^= bytes1(uint8(1 << (bit % 8)));
        expectRefused(id, signature);
    }

    /// @dev An EIP-7702 account can't disown with code what its key has signed.
    function test_AKeysSignatureIsFinalWhateverCodeItsAddressHas() public {
        bytes32 id = openChannel();
        vm.etch(payer.addr, type(BurningSigner).runtimeCode);
        expectTaken(id, signVoucher(payer, id, 10e6));
    }

    // --- Contracts ---

    function openWithContract(address by) private returns (bytes32) {
        return openChannelWithSigner(by);
    }

    function test_AsksAContractSigner() public {
        ChoosingSigner wallet = new ChoosingSigner();
        bytes32 id = openWithContract(address(wallet));
        wallet.choose(voucherDigest(id, 10e6), abi.encode(MAGIC));
        expectTaken(id, "any bytes at all");
    }

    function test_AsksAPayerThatIsAContract() public {
        ChoosingSigner wallet = new ChoosingSigner();
        fund(address(wallet), DEPOSIT);
        vm.prank(address(wallet));
        bytes32 id = escrow.open(payee.addr, address(token), DEPOSIT, SALT, address(0));
        wallet.choose(voucherDigest(id, 10e6), abi.encode(MAGIC));
        expectTaken(id, "");
    }

    function test_ReadsOneWordOfALongAnswer() public {
        ChoosingSigner wallet = new ChoosingSigner();
        bytes32 id = openWithContract(address(wallet));
        wallet.choose(voucherDigest(id, 10e6), bytes.concat(MAGIC, new bytes(640)));
        expectTaken(id, "");
    }

    function test_RevertWhen_TheContractDoesNotSayYes() public {
        ChoosingSigner wallet = new ChoosingSigner();
        bytes32 id = openWithContract(address(wallet));
        bytes32 digest = voucherDigest(id, 10e6);

        bytes[5] memory answers = [
            bytes(""),
            abi.encodePacked(bytes4(MAGIC)), // right, but no whole word
            abi.encode(bytes4(0xffffffff)),
            abi.encode(true),
            abi.encode(MAGIC | bytes32(uint256(1))) // right, but dirty
        ];
        for (uint256 i = 0; i < answers.length; ++i) {
            wallet.choose(digest, answers[i]);
            expectRefused(id, "");
        }
        wallet.choose(voucherDigest(id, 11e6), abi.encode(MAGIC)); // reverts when asked
        expectRefused(id, "");
    }

    function test_RevertWhen_TheContractWrites() public {
        bytes32 id = openWithContract(address(new WritingSigner()));
        expectRefused(id, "");
    }

    function test_AContractBurnsNoMoreThanItsAllowance() public {
        bytes32 id = openWithContract(address(new BurningSigner()));
        vm.prank(payee.addr);
        vm.expectRevert(IChannelEscrow.InvalidSignature.selector);
        escrow.settle{gas: 200_000}(id, 10e6, "");
    }

    /// @dev Too little gas for the allowance is no answer from the contract, and must not look like one.
    function test_RevertWhen_TheGasLeftCantCoverTheAllowance() public {
        ChoosingSigner wallet = new ChoosingSigner();
        bytes32 id = openWithContract(address(wallet));
        wallet.choose(voucherDigest(id, 10e6), abi.encode(MAGIC));
        vm.prank(payee.addr);
        vm.expectRevert(IChannelEscrow.InsufficientGas.selector);
        escrow.settle{gas: 110_000}(id, 10e6, "");
    }

    function test_BatchesAskNoContract() public {
        ChoosingSigner wallet = new ChoosingSigner();
        bytes32 id = openWithContract(address(wallet));
        wallet.choose(voucherDigest(id, 10e6), abi.encode(MAGIC));
        assertEq(
            escrow.claimVouchers(
                payee.addr, address(token), rowsOf(voucherRow(payer, address(wallet), SALT, 10e6, 10e6))
            ),
            0
        );
    }
}
