// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "../Fixture.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";
import {IUsageSettlement} from "lloom/interfaces/IUsageSettlement.sol";
import {toVoucherAmounts} from "lloom/types/VoucherAmounts.sol";

/// @notice What users pay: gas of whole transactions, the base fee of 21,000 and the call data included (`isolate` runs
/// each call as a transaction of its own, on cold state).
/// @dev Conditions, those of the figures in script/gas-report.mjs: distinct payers, one payee, random-looking addresses
/// and salts, the recipient already holds the token, the second claim on every channel, and a payee that has had
/// channels before (`openFirstOfPayee` has not). Single channels are signed for by the payer itself, as `lloomctl` opens
/// them; a signer of their own costs 22,400 more to open (`openWithSigner`) and 2,100 to settle. In batches each payer has
/// one, and vouchers are ceilings above the amount taken.
contract SettlementGasTest is Fixture {
    string private constant GROUP = "Settlement";
    uint128 private constant FIRST = 12_345_678;
    uint128 private constant SECOND = 34_567_891;
    uint128 private constant CEILING = 34_613_579;

    function setUp() public override {
        super.setUp();
        token.mint(payee.addr, 1e6);
        token.mint(address(escrow), 1); // some other account's money
        // The token is known, and the payer has used the escrow before.
        vm.startPrank(payer.addr);
        escrow.deposit(address(token), 400e6);
        escrow.open(payee.addr, address(token), 1e6, keccak256("earlier"), address(0));
        vm.stopPrank();
    }

    // --- One channel ---

    function test_Open() public {
        openChannel();
        vm.snapshotGasLastCall(GROUP, "open");
    }

    function test_OpenWithSigner() public {
        openChannelWithSigner(signer.addr);
        vm.snapshotGasLastCall(GROUP, "openWithSigner");
    }

    function test_OpenFromBalance() public {
        vm.prank(payer.addr);
        escrow.openFromBalance(payee.addr, address(token), DEPOSIT, SALT, address(0));
        vm.snapshotGasLastCall(GROUP, "openFromBalance");
    }

    /// @dev What the first channel of a payee in a token costs whoever opens it.
    function test_OpenFirstOfPayee() public {
        vm.prank(payer.addr);
        escrow.open(operator.addr, address(token), DEPOSIT, SALT, address(0));
        vm.snapshotGasLastCall(GROUP, "openFirstOfPayee");
    }

    function test_OpenWithGrant() public {
        IRelayedChannels.ChannelGrant memory grant = channelGrant();
        bytes memory signature = sign(payer, escrowDomain(), grantHash(grant));
        vm.prank(stranger);
        escrow.openWithGrant(grant, signature);
        vm.snapshotGasLastCall(GROUP, "openWithGrant");
    }

    function test_Deposit() public {
        vm.prank(payer.addr);
        escrow.deposit(address(token), DEPOSIT);
        vm.snapshotGasLastCall(GROUP, "deposit");
    }

    function test_TopUp() public {
        bytes32 id = openChannel();
        vm.prank(payer.addr);
        escrow.topUp(id, DEPOSIT);
        vm.snapshotGasLastCall(GROUP, "topUp");
    }

    function test_Settle() public {
        bytes32 id = openChannel();
        settleAs(payee.addr, id, FIRST);
        settleAs(payee.addr, id, SECOND);
        vm.snapshotGasLastCall(GROUP, "settle");
    }

    function test_WithSigner() public {
        bytes32 id = openChannelWithSigner(signer.addr);
        (bytes memory first, bytes memory second) = (signVoucher(signer, id, FIRST), signVoucher(signer, id, SECOND));
        vm.startPrank(payee.addr);
        escrow.settle(id, FIRST, first);
        uint256 snapshot = vm.snapshotState();
        escrow.settle(id, SECOND, second);
        vm.snapshotGasLastCall(GROUP, "settleWithSigner");
        vm.revertToState(snapshot);
        escrow.close(id, SECOND, second);
        vm.snapshotGasLastCall(GROUP, "closeWithSigner");
    }

    function test_Close() public {
        bytes32 id = openChannel();
        settleAs(payee.addr, id, FIRST);
        closeAs(payee.addr, id, SECOND);
        vm.snapshotGasLastCall(GROUP, "close");
    }

    function test_RequestClose() public {
        bytes32 id = openChannel();
        vm.prank(payer.addr);
        escrow.requestClose(id);
        vm.snapshotGasLastCall(GROUP, "requestClose");
    }

    function test_Withdraw() public {
        bytes32 id = openChannel();
        settleAs(payee.addr, id, FIRST);
        vm.prank(payer.addr);
        escrow.requestClose(id);
        skip(1 hours);
        vm.prank(payer.addr);
        escrow.withdraw(id);
        vm.snapshotGasLastCall(GROUP, "withdraw");
    }

    // --- Batches ---

    function test_ClaimVouchers() public {
        measureVouchers(1, "claimVouchers_1");
        measureVouchers(10, "claimVouchers_10");
        measureVouchers(100, "claimVouchers_100");
    }

    function test_ClaimReceipts() public {
        measureReceipts(1, "claimReceipts_1");
        measureReceipts(10, "claimReceipts_10");
        measureReceipts(100, "claimReceipts_100");
    }

    function measureVouchers(uint256 count, string memory name) private {
        escrow.claimVouchers(payee.addr, address(token), vouchers(count, name, FIRST, FIRST));
        IChannelEscrow.VoucherRow[] memory rows = vouchers(count, name, CEILING, SECOND);

        vm.prank(stranger);
        uint256 paid = escrow.claimVouchers(payee.addr, address(token), rows);
        vm.snapshotGasLastCall(GROUP, name);
        assertEq(paid, count * (SECOND - FIRST));
    }

    function measureReceipts(uint256 count, string memory name) private {
        escrow.claimVouchers(payee.addr, address(token), vouchers(count, name, FIRST, FIRST));
        IUsageSettlement.ReceiptRow[] memory rows = new IUsageSettlement.ReceiptRow[](count);
        for (uint256 i = 0; i < count; ++i) {
            (Account memory from, Account memory by, bytes32 salt) = client(name, i);
            rows[i] = receiptRow(from, by, operator, by.addr, salt, SECOND);
        }
        uint256 before = token.balanceOf(payee.addr);

        vm.prank(operator.addr);
        settlement.claimReceipts(payee.addr, address(token), rows);
        vm.snapshotGasLastCall(GROUP, name);
        assertEq(token.balanceOf(payee.addr) - before, count * (SECOND - FIRST));
    }

    /// @dev Opens the channels of `name` on first sight, and signs a voucher for each.
    function vouchers(uint256 count, string memory name, uint128 ceiling, uint128 amount)
        private
        returns (IChannelEscrow.VoucherRow[] memory rows)
    {
        rows = new IChannelEscrow.VoucherRow[](count);
        for (uint256 i = 0; i < count; ++i) {
            (Account memory from, Account memory by, bytes32 salt) = client(name, i);
            bytes32 id = channelIdOf(from.addr, payee.addr, address(token), salt, by.addr);
            if (escrow.getChannel(id).payer == address(0)) {
                fund(from.addr, DEPOSIT);
                vm.prank(from.addr);
                escrow.open(payee.addr, address(token), DEPOSIT, salt, by.addr);
            }
            (bytes32 r, bytes32 vs) = vm.signCompact(by.key, voucherDigest(id, ceiling));
            rows[i] = IChannelEscrow.VoucherRow(from.addr, salt, by.addr, r, vs, toVoucherAmounts(ceiling, amount));
        }
    }

    function client(string memory name, uint256 index)
        private
        pure
        returns (Account memory from, Account memory by, bytes32 salt)
    {
        bytes32 seed = keccak256(abi.encode(name, index));
        from.key = uint256(keccak256(abi.encode(seed, "wallet")));
        from.addr = vm.addr(from.key);
        by.key = uint256(keccak256(abi.encode(seed, "signer")));
        by.addr = vm.addr(by.key);
        salt = keccak256(abi.encode(seed, "salt"));
    }
}
