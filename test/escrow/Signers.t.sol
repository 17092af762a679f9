// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {SignedCalls} from "../SignedCalls.sol";
import {
    BurningSigner,
    HungrySigner,
    MoodySigner,
    ReenteringSigner,
    RevokingSigner,
    VerboseSigner,
    WritingSigner,
    YesSigner
} from "../adversary/Signers.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";

/// @notice What counts as a signature in every call that takes one: keys, contracts, and accounts that are both.
contract SignersTest is SignedCalls {
    uint256 private constant ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    // --- Keys ---

    function test_AKeysSignatureIsTakenInBothForms() public {
        bytes32 id = prepare();
        uint256 snapshot = vm.snapshotState();
        for (uint256 i = 0; i < KINDS; ++i) {
            Kind kind = Kind(i);
            assertTaken(kind, id, callOf(kind, id, keySignature(kind, id)));
            vm.revertToState(snapshot);
            (bytes32 r, bytes32 vs) = vm.signCompact(isPayees(kind) ? payee.key : payer.key, digestOf(kind, id));
            assertTaken(kind, id, callOf(kind, id, abi.encodePacked(r, vs)));
            vm.revertToState(snapshot);
        }
    }

    /// @dev Draft, "Signature Verification", 1.
    function test_RevertWhen_SIsInTheUpperHalf() public {
        bytes32 id = prepare();
        for (uint256 i = 0; i < KINDS; ++i) {
            Kind kind = Kind(i);
            (uint8 v, bytes32 r, bytes32 s) = vm.sign(isPayees(kind) ? payee.key : payer.key, digestOf(kind, id));
            bytes32 high = bytes32(ORDER - uint256(s));
            assertUnsigned(kind, id, callOf(kind, id, abi.encodePacked(r, high, v == 27 ? uint8(28) : uint8(27))));
            assertUnsigned(kind, id, callOf(kind, id, abi.encodePacked(r, high, v)));
        }
    }

    function test_RevertWhen_VIsAnother() public {
        bytes32 id = prepare();
        uint8[6] memory others = [0, 1, 26, 29, 128, 255];
        for (uint256 i = 0; i < KINDS; ++i) {
            Kind kind = Kind(i);
            (uint8 v, bytes32 r, bytes32 s) = vm.sign(isPayees(kind) ? payee.key : payer.key, digestOf(kind, id));
            assertUnsigned(kind, id, callOf(kind, id, abi.encodePacked(r, s, v == 27 ? uint8(28) : uint8(27))));
            for (uint256 j = 0; j < others.length; ++j) {
                assertUnsigned(kind, id, callOf(kind, id, abi.encodePacked(r, s, others[j])));
            }
        }
    }

    /// @dev A good signature with more or fewer bytes than it has, and nothing but zeros.
    function test_RevertWhen_LengthIsNeither64Nor65() public {
        bytes32 id = prepare();
        uint16[6] memory lengths = [0, 1, 64, 65, 66, 10_000];
        for (uint256 i = 0; i < KINDS; ++i) {
            Kind kind = Kind(i);
            bytes memory good = keySignature(kind, id);
            for (uint256 j = 0; j < lengths.length; ++j) {
                assertUnsigned(kind, id, callOf(kind, id, new bytes(lengths[j])));
                if (lengths[j] > 65) {
                    assertUnsigned(kind, id, callOf(kind, id, bytes.concat(good, new bytes(lengths[j] - 65))));
                }
            }
        }
    }

    /// @dev Draft, "Signature Verification", 2: neither another key's nor that of the other side.
    function test_RevertWhen_AnotherSigned() public {
        bytes32 id = prepare();
        for (uint256 i = 0; i < KINDS; ++i) {
            Kind kind = Kind(i);
            bytes32 digest = digestOf(kind, id);
            assertUnsigned(kind, id, callOf(kind, id, packed(signer, digest)));
            assertUnsigned(kind, id, callOf(kind, id, packed(isPayees(kind) ? payer : payee, digest)));
            assertUnsigned(kind, id, callOf(kind, id, packed(operator, digest)));
        }
    }

    /// @dev Of each kind for each other, all by one key on both sides.
    function test_RevertWhen_TheSignatureIsOfAnotherKind() public {
        payee = payer;
        bytes32 id = prepare();
        for (uint256 i = 0; i < KINDS; ++i) {
            for (uint256 j = 0; j < KINDS; ++j) {
                (Kind kind, Kind other) = (Kind(i), Kind(j));
                if (structHashOf(kind, id) == structHashOf(other, id)) continue; // both take a voucher
                assertUnsigned(kind, id, callOf(kind, id, keySignature(other, id)));
            }
        }
    }

    function testFuzz_RevertWhen_ABitIsFlipped(uint8 kind_, uint256 bit) public {
        Kind kind = Kind(bound(kind_, 0, KINDS - 1));
        bytes32 id = prepare();
        bytes memory signature = keySignature(kind, id);
        bit = bound(bit, 0, 65 * 8 - 1);
        signature[bit / 8] ^= bytes1(uint8(1 << (bit % 8)));
        assertUnsigned(kind, id, callOf(kind, id, signature));
    }

    // --- Contracts ---

    /// @dev A channel between contracts on the side that a kind is about, and keys on the other.
    function prepareWith(Kind kind, address wallet) private returns (bytes32) {
        if (isPayees(kind)) payee.addr = wallet;
        else payer.addr = wallet;
        return prepare();
    }

    /// @dev The other side's signature stays a key's.
    function assertEachTakes(address wallet, bytes memory signature) private {
        forEach(wallet, signature, true);
    }

    function assertEachRefuses(address wallet, bytes memory signature) private {
        forEach(wallet, signature, false);
    }

    function forEach(address wallet, bytes memory signature, bool takes) private {
        (address payerBefore, address payeeBefore) = (payer.addr, payee.addr);
        for (uint256 i = 0; i < KINDS; ++i) {
            Kind kind = Kind(i);
            uint256 snapshot = vm.snapshotState();
            bytes32 id = prepareWith(kind, wallet);
            bytes memory call = callOf(kind, id, signature);
            if (takes) assertTaken(kind, id, call);
            else assertUnsigned(kind, id, call);
            vm.revertToState(snapshot);
            (payer.addr, payee.addr) = (payerBefore, payeeBefore);
        }
    }

    function test_AContractSignerIsAsked() public {
        address wallet = address(new YesSigner());
        uint16[6] memory lengths = [0, 1, 64, 65, 66, 10_000];
        for (uint256 i = 0; i < lengths.length; ++i) {
            assertEachTakes(wallet, new bytes(lengths[i]));
        }
    }

    /// @dev What it says counts for itself alone: nobody asks a contract that is not the signer.
    function test_RevertWhen_AnotherContractSaysYes() public {
        address liar = address(new YesSigner());
        bytes32 id = prepare();
        for (uint256 i = 0; i < KINDS; ++i) {
            Kind kind = Kind(i);
            assertUnsigned(kind, id, callOf(kind, id, abi.encode(liar)));
            assertUnsigned(kind, id, callOf(kind, id, abi.encodePacked(liar, keySignature(Kind.RequestClose, 0))));
        }
    }

    function test_RevertWhen_TheContractRevertsBurnsOrWrites() public {
        assertEachRefuses(address(new MoodySigner()), "");
        assertEachRefuses(address(new RevokingSigner()), "");
        assertEachRefuses(address(new BurningSigner()), "");
        assertEachRefuses(address(new WritingSigner()), "");
        assertEachRefuses(address(token), ""); // a contract that knows nothing of signatures
    }

    function test_OneWordOfALongAnswerIsRead() public {
        assertEachTakes(address(new VerboseSigner(32)), "");
        assertEachTakes(address(new VerboseSigner(100_000)), "");
        assertEachRefuses(address(new VerboseSigner(31)), "");
        assertEachRefuses(address(new VerboseSigner(1 << 20)), ""); // its allowance doesn't pay for that
    }

    /// @dev A megabyte costs the caller nothing: the signer pays for it, out of its allowance.
    function test_AMegabyteIsNotCopied() public {
        Kind kind = Kind.Settle;
        bytes32 id = prepareWith(kind, address(new VerboseSigner(1 << 20)));
        vm.prank(payee.addr);
        (bool success, bytes memory answer) = address(escrow).call{gas: 200_000}(callOf(kind, id, ""));
        assertFalse(success);
        assertEq(bytes4(answer), IChannelEscrow.InvalidSignature.selector);
    }

    /// @dev Whatever it calls, it is asked by a static call: nothing that writes can come through.
    function test_RevertWhen_TheContractReentersAndInsists() public {
        ReenteringSigner wallet = new ReenteringSigner();
        bytes32 id = channelIdOf(address(wallet), payee.addr, address(token), SALT, address(0));
        bytes[6] memory calls = [
            abi.encodeCall(IChannelEscrow.requestClose, (id)),
            abi.encodeCall(IChannelEscrow.topUpFromBalance, (id, 1)),
            abi.encodeCall(IChannelEscrow.topUp, (id, 1)),
            abi.encodeCall(IChannelEscrow.openFromBalance, (payee.addr, address(token), 1, GRANT_SALT, address(0))),
            abi.encodeCall(IChannelEscrow.withdrawBalance, (address(token), 1, address(wallet))),
            abi.encodeCall(IChannelEscrow.deposit, (address(token), 1))
        ];
        for (uint256 i = 0; i < calls.length; ++i) {
            wallet.plan(address(escrow), calls[i], false);
            assertEachRefuses(address(wallet), "");
            wallet.plan(address(escrow), calls[i], true);
            assertEachTakes(address(wallet), "");
        }
        wallet.plan(address(escrow), abi.encodeCall(IChannelEscrow.getChannel, (id)), false);
        assertEachTakes(address(wallet), ""); // it may read
    }

    /// @dev Draft, "Contract Wallet Signer Mutability": a voucher is worth what the contract says when it is claimed.
    function test_AContractMayChangeItsMindBetweenClaims() public {
        MoodySigner wallet = new MoodySigner();
        bytes32 id = openChannelWithSigner(address(wallet));
        wallet.setSays(true);
        vm.startPrank(payee.addr);
        escrow.settle(id, 10e6, "");
        wallet.setSays(false);
        vm.expectRevert(IChannelEscrow.InvalidSignature.selector);
        escrow.settle(id, 20e6, "");
        assertEq(token.balanceOf(payee.addr), 10e6, "what was paid stays paid");
        wallet.setSays(true);
        escrow.settle(id, 20e6, "");
        assertEq(settledOf(id), 20e6);
    }

    /// @dev A signer whose key signed before it had any code, and one that isn't there yet.
    function test_AnAddressWithoutCodeIsNotAsked() public {
        bytes32 id = openChannelWithSigner(makeAddr("not deployed"));
        vm.prank(payee.addr);
        vm.expectRevert(IChannelEscrow.InvalidSignature.selector);
        escrow.settle(id, 1, "");
    }

    // --- Accounts with a key and code (EIP-7702) ---

    /// @dev From now on the account answers with the code of `wallet`.
    function delegate(Account memory account, address wallet) private {
        vm.signAndAttachDelegation(wallet, account.key);
        vm.prank(stranger);
        (bool success,) = stranger.call("");
        assertTrue(success);
        assertEq(account.addr.code, abi.encodePacked(hex"ef0100", wallet));
    }

    /// @dev Nor can it void by code what its key has signed: vouchers, grants, authorizations.
    function test_ADelegatedAccountCantDisownItsKey() public {
        address[3] memory wallets =
            [address(new MoodySigner()), address(new BurningSigner()), address(new VerboseSigner(1 << 20))];
        for (uint256 w = 0; w < wallets.length; ++w) {
            for (uint256 i = 0; i < KINDS; ++i) {
                Kind kind = Kind(i);
                uint256 snapshot = vm.snapshotState();
                bytes32 id = prepare();
                bytes memory signature = keySignature(kind, id);
                delegate(isPayees(kind) ? payee : payer, wallets[w]);
                assertTaken(kind, id, callOf(kind, id, signature));
                vm.revertToState(snapshot);
            }
        }
    }

    /// @dev Rows of vouchers and receipts are signed by keys: there its code is not even asked.
    function test_ADelegatedAccountCantDisownItsRows() public {
        prepare();
        address wallet = address(new MoodySigner());
        delegate(payer, wallet);
        delegate(operator, wallet);
        vm.expectCall(payer.addr, "", 0);
        assertEq(escrow.claimVouchers(payee.addr, address(token), rowsOf(voucherRow(40e6))), 40e6);
        vm.prank(payee.addr);
        settlement.claimReceipts(payee.addr, address(token), rowsOf(receiptRow(50e6)));
        assertEq(token.balanceOf(payee.addr), 50e6);
    }

    /// @dev Its code may say yes where its key said nothing: what an account is delegated to is its own affair.
    function test_ADelegatedAccountsCodeMaySignToo() public {
        address wallet = address(new YesSigner());
        for (uint256 i = 0; i < KINDS; ++i) {
            Kind kind = Kind(i);
            uint256 snapshot = vm.snapshotState();
            bytes32 id = prepare();
            delegate(isPayees(kind) ? payee : payer, wallet);
            assertTaken(kind, id, callOf(kind, id, ""));
            vm.revertToState(snapshot);
        }
    }

    // --- Gas ---

    /// @dev With whatever gas a call comes, a signer that would have said yes is never taken for one that said no.
    function assertNeverStarved(Kind kind, bytes32 id) private {
        bytes memory call = callOf(kind, id, "");
        (bool refused, bool taken) = (false, false);
        for (uint256 gasLimit = 100_000; gasLimit < 340_000; gasLimit += 499) {
            uint256 snapshot = vm.snapshotState();
            vm.prank(kind == Kind.Settle || kind == Kind.Close ? payee.addr : stranger);
            (bool success, bytes memory answer) = address(escrow).call{gas: gasLimit}(call);
            if (success) assertTrue(isDone(kind, id), "skipped");
            else assertNotEq(bytes4(answer), IChannelEscrow.InvalidSignature.selector, vm.toString(gasLimit));
            taken = taken || success;
            refused = refused || bytes4(answer) == IChannelEscrow.InsufficientGas.selector;
            vm.revertToState(snapshot);
        }
        assertTrue(refused && taken);
    }

    function test_AContractSignerIsNeverStarved() public {
        address wallet = address(new HungrySigner());
        (address payerBefore, address payeeBefore) = (payer.addr, payee.addr);
        for (uint256 i = 0; i < KINDS; ++i) {
            uint256 snapshot = vm.snapshotState();
            assertNeverStarved(Kind(i), prepareWith(Kind(i), wallet));
            vm.revertToState(snapshot);
            (payer.addr, payee.addr) = (payerBefore, payeeBefore);
        }
    }

    /// @dev To look up what it is delegated to costs one more cold access.
    function test_ADelegatedSignerIsNeverStarved() public {
        address wallet = address(new HungrySigner());
        for (uint256 i = 0; i < KINDS; ++i) {
            uint256 snapshot = vm.snapshotState();
            bytes32 id = prepare();
            delegate(isPayees(Kind(i)) ? payee : payer, wallet);
            assertNeverStarved(Kind(i), id);
            vm.revertToState(snapshot);
        }
    }
}
