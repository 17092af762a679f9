// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IDevToken} from "./IDevToken.sol";
import {ILloomDeployer} from "./ILloomDeployer.sol";
import {Test} from "forge-std/Test.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IExecutorRegistry} from "lloom/interfaces/IExecutorRegistry.sol";
import {IRelayedChannels} from "lloom/interfaces/IRelayedChannels.sol";
import {IUsageSettlement} from "lloom/interfaces/IUsageSettlement.sol";
import {toVoucherAmounts} from "lloom/types/VoucherAmounts.sol";

/// @notice The contracts as the deployer makes them, some accounts, and the signatures of both sides. Every digest is
/// computed here from the EIP-712 type strings of the documentation, never asked of the contracts.
abstract contract Fixture is Test {
    bytes32 internal constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    string internal constant BILL_TYPE =
        "UsageBill(bytes32 channelId,bytes32 requestHash,bytes32 responseHash,uint32 inputTokens,uint32 outputTokens,uint128 amount,uint64 completedAt)";
    string internal constant RECEIPT_TYPE =
        "UsageReceipt(bytes32 channelId,uint64 sequence,uint64 cumulativeInputTokens,uint64 cumulativeOutputTokens,uint128 cumulativeAmount,bytes32 previousReceipt,UsageBill bill)";

    uint128 internal constant DEPOSIT = 100e6;
    bytes32 internal constant SALT = keccak256("salt");

    IChannelEscrow internal escrow;
    IUsageSettlement internal settlement;
    IExecutorRegistry internal registry;
    IDevToken internal token;

    Account internal payer;
    Account internal payee;
    Account internal operator;
    Account internal signer;
    address internal stranger;

    function setUp() public virtual {
        ILloomDeployer deployer = ILloomDeployer(deployCode("LloomDeployer"));
        (escrow, settlement, registry) = (deployer.ESCROW(), deployer.SETTLEMENT(), deployer.REGISTRY());
        token = deployToken();

        payer = makeAccount("payer");
        payee = makeAccount("payee");
        operator = makeAccount("operator");
        signer = makeAccount("signer");
        stranger = makeAddr("stranger");
        vm.warp(1_800_000_000);

        fund(payer.addr, 1000e6);
        vm.prank(payee.addr);
        registry.addOperator(operator.addr);
    }

    function deployToken() internal returns (IDevToken) {
        return IDevToken(deployCode("DevToken"));
    }

    /// @dev Gives `account` tokens that the escrow may take.
    function fund(address account, uint256 amount) internal {
        token.mint(account, amount);
        vm.prank(account);
        token.approve(address(escrow), type(uint256).max);
    }

    // --- Channels ---

    /// @dev A channel of `DEPOSIT` from the payer's wallet, which the payer itself signs for.
    function openChannel() internal returns (bytes32) {
        return openChannel(DEPOSIT);
    }

    function openChannel(uint128 amount) internal returns (bytes32) {
        vm.prank(payer.addr);
        return escrow.open(payee.addr, address(token), amount, SALT, address(0));
    }

    function openChannelWithSigner(address authorizedSigner) internal returns (bytes32) {
        vm.prank(payer.addr);
        return escrow.open(payee.addr, address(token), DEPOSIT, SALT, authorizedSigner);
    }

    function openChannelFromBalance() internal returns (bytes32) {
        vm.startPrank(payer.addr);
        escrow.deposit(address(token), DEPOSIT);
        bytes32 id = escrow.openFromBalance(payee.addr, address(token), DEPOSIT, SALT, address(0));
        vm.stopPrank();
        return id;
    }

    function settleAs(address caller, bytes32 id, uint128 amount) internal {
        bytes memory signature = signVoucher(payer, id, amount);
        vm.prank(caller);
        escrow.settle(id, amount, signature);
    }

    function closeAs(address caller, bytes32 id, uint128 amount) internal {
        bytes memory signature = signVoucher(payer, id, amount);
        vm.prank(caller);
        escrow.close(id, amount, signature);
    }

    function settledOf(bytes32 id) internal view returns (uint128) {
        return escrow.getChannel(id).settled;
    }

    // --- Signatures of the payer side ---

    function escrowDomain() internal view returns (bytes32) {
        return domainOf("EVM Payment Channel", address(escrow));
    }

    function settlementDomain() internal view returns (bytes32) {
        return domainOf("Lloom", address(settlement));
    }

    function domainOf(string memory name, address verifyingContract) internal view returns (bytes32) {
        return keccak256(
            abi.encode(DOMAIN_TYPEHASH, keccak256(bytes(name)), keccak256("1"), block.chainid, verifyingContract)
        );
    }

    function typedDigest(bytes32 domain, bytes32 structHash) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }

    function channelIdOf(address payer_, address payee_, address token_, bytes32 salt, address authorizedSigner)
        internal
        view
        returns (bytes32)
    {
        return keccak256(abi.encode(payer_, payee_, token_, salt, authorizedSigner, address(escrow), block.chainid));
    }

    function voucherDigest(bytes32 id, uint128 amount) internal view returns (bytes32) {
        bytes32 typeHash = keccak256("Voucher(bytes32 channelId,uint128 cumulativeAmount)");
        return typedDigest(escrowDomain(), keccak256(abi.encode(typeHash, id, amount)));
    }

    function signVoucher(Account memory by, bytes32 id, uint128 amount) internal view returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(by.key, voucherDigest(id, amount));
        return abi.encodePacked(r, s, v);
    }

    /// @dev A row for the payer's channel under `SALT`, signed by the payer for exactly `amount`.
    function voucherRow(uint128 amount) internal view returns (IChannelEscrow.VoucherRow memory) {
        return voucherRow(payer, address(0), SALT, amount, amount);
    }

    function voucherRow(Account memory by, address authorizedSigner, bytes32 salt, uint128 ceiling, uint128 amount)
        internal
        view
        returns (IChannelEscrow.VoucherRow memory row)
    {
        bytes32 id = channelIdOf(by.addr, payee.addr, address(token), salt, authorizedSigner);
        (bytes32 r, bytes32 vs) = vm.signCompact(by.key, voucherDigest(id, ceiling));
        row = IChannelEscrow.VoucherRow(by.addr, salt, authorizedSigner, r, vs, toVoucherAmounts(ceiling, amount));
    }

    function rowsOf(IChannelEscrow.VoucherRow memory row)
        internal
        pure
        returns (IChannelEscrow.VoucherRow[] memory rows)
    {
        rows = new IChannelEscrow.VoucherRow[](1);
        rows[0] = row;
    }

    // --- Signatures that somebody else submits ---

    function sign(Account memory by, bytes32 domain, bytes32 structHash) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(by.key, typedDigest(domain, structHash));
        return abi.encodePacked(r, s, v);
    }

    function requestCloseHash(bytes32 id, uint256 nonce, uint256 deadline) internal pure returns (bytes32) {
        bytes32 typeHash = keccak256("RequestCloseAuthorization(bytes32 channelId,uint256 nonce,uint256 deadline)");
        return keccak256(abi.encode(typeHash, id, nonce, deadline));
    }

    function settleHash(bytes32 id, uint128 amount, uint256 nonce, uint256 deadline) internal pure returns (bytes32) {
        bytes32 typeHash =
            keccak256("SettleAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)");
        return keccak256(abi.encode(typeHash, id, amount, nonce, deadline));
    }

    function closeHash(bytes32 id, uint128 amount, uint256 nonce, uint256 deadline) internal pure returns (bytes32) {
        bytes32 typeHash =
            keccak256("CloseAuthorization(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)");
        return keccak256(abi.encode(typeHash, id, amount, nonce, deadline));
    }

    function grantHash(IRelayedChannels.ChannelGrant memory grant) internal pure returns (bytes32) {
        bytes32 typeHash = keccak256(
            "ChannelGrant(address payer,address payee,address token,uint128 deposit,bytes32 salt,address authorizedSigner,uint64 deadline)"
        );
        return keccak256(abi.encode(typeHash, grant));
    }

    function grantHash(IRelayedChannels.TopUpGrant memory grant) internal pure returns (bytes32) {
        bytes32 typeHash = keccak256("TopUpGrant(bytes32 channelId,uint128 deposit,uint64 deadline)");
        return keccak256(abi.encode(typeHash, grant));
    }

    /// @dev A grant for a channel of `DEPOSIT` under `SALT`, good for an hour.
    function channelGrant() internal view returns (IRelayedChannels.ChannelGrant memory) {
        return IRelayedChannels.ChannelGrant(
            payer.addr, payee.addr, address(token), DEPOSIT, SALT, address(0), uint64(block.timestamp + 1 hours)
        );
    }

    // --- Signatures of both sides ---

    /// @dev A bill's hash, whose contents no test on chain looks at.
    function billHashOf(bytes32 id, uint128 amount) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256(bytes(BILL_TYPE)),
                id,
                keccak256("request"),
                keccak256("response"),
                uint32(1200),
                uint32(340),
                amount,
                uint64(1_800_000_000)
            )
        );
    }

    function receiptDigest(bytes32 id, IUsageSettlement.ReceiptRow memory row) internal view returns (bytes32) {
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256(abi.encodePacked(RECEIPT_TYPE, BILL_TYPE)),
                id,
                row.sequence,
                row.cumulativeInputTokens,
                row.cumulativeOutputTokens,
                row.cumulativeAmount,
                row.previousReceipt,
                row.billHash
            )
        );
        return typedDigest(settlementDomain(), structHash);
    }

    function receiptRow(uint128 amount) internal view returns (IUsageSettlement.ReceiptRow memory) {
        return receiptRow(payer, payer, operator, address(0), SALT, amount);
    }

    function receiptRow(
        Account memory payer_,
        Account memory receiptSigner,
        Account memory billSigner,
        address authorizedSigner,
        bytes32 salt,
        uint128 amount
    ) internal view returns (IUsageSettlement.ReceiptRow memory row) {
        bytes32 id = channelIdOf(payer_.addr, payee.addr, address(token), salt, authorizedSigner);
        row.payer = payer_.addr;
        row.authorizedSigner = authorizedSigner;
        row.salt = salt;
        row.sequence = 3;
        row.cumulativeInputTokens = 4096;
        row.cumulativeOutputTokens = 1024;
        row.cumulativeAmount = amount;
        row.previousReceipt = keccak256("previous");
        row.billHash = billHashOf(id, amount);
        (row.payerR, row.payerVs) = vm.signCompact(receiptSigner.key, receiptDigest(id, row));
        (row.operatorR, row.operatorVs) = vm.signCompact(billSigner.key, typedDigest(settlementDomain(), row.billHash));
    }

    function rowsOf(IUsageSettlement.ReceiptRow memory row)
        internal
        pure
        returns (IUsageSettlement.ReceiptRow[] memory rows)
    {
        rows = new IUsageSettlement.ReceiptRow[](1);
        rows[0] = row;
    }
}
