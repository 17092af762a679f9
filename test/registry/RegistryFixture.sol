// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "../Fixture.sol";
import {IDevToken} from "../IDevToken.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {Vm} from "forge-std/Vm.sol";
import {IExecutorRegistry} from "lloom/interfaces/IExecutorRegistry.sol";

/// @notice A payee with a channel and tokens to bond, and the documents of one inference. As in `Fixture`, hashes are
/// computed from the type strings.
abstract contract RegistryFixture is Fixture {
    string internal constant REQUEST_TYPE =
        "InferenceRequest(bytes32 channelId,address operator,uint256 nonce,bytes32 model,bytes32 promptHash,uint32 maxInputTokens,uint32 maxOutputTokens,uint128 inputPrice,uint128 outputPrice,uint64 deadline)";
    /// @dev Of secp256k1's group.
    uint256 internal constant ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
    address internal constant BURN_ADDRESS = 0x000000000000000000000000000000000000dEaD;
    uint64 internal constant DELAY = 7 days;
    uint128 internal constant BOND = 1000e6;

    /// @dev Another token than the channels', so that what is gained by faults is seen apart.
    IDevToken internal bondToken;
    address internal reporter;
    bytes32 internal channelId;

    function setUp() public virtual override {
        super.setUp();
        reporter = makeAddr("reporter");
        channelId = openChannel();
        useBondToken(deployToken());
    }

    // --- Bonds ---

    /// @dev Gives the payee as much of `bondToken` as a bond can take, and allows the registry to take it.
    function useBondToken(IDevToken bondToken_) internal {
        bondToken = bondToken_;
        bondToken.mint(payee.addr, type(uint128).max);
        vm.prank(payee.addr);
        bondToken.approve(address(registry), type(uint256).max);
    }

    function giveBond(uint128 amount) internal {
        vm.prank(payee.addr);
        registry.bond(address(bondToken), amount);
    }

    function requestUnbond(uint128 amount) internal {
        vm.prank(payee.addr);
        registry.requestUnbond(amount);
    }

    function withdrawBond() internal {
        vm.prank(payee.addr);
        registry.withdrawBond();
    }

    function bonded() internal view returns (uint128) {
        return registry.bondOf(payee.addr).amount;
    }

    /// @dev What `account` was given of slices.
    function shareOf(address account) internal view returns (uint256) {
        return registry.withdrawableOf(account, address(bondToken));
    }

    // --- Documents ---

    function makeRequest(uint256 nonce) internal view virtual returns (IExecutorRegistry.InferenceRequest memory) {
        return IExecutorRegistry.InferenceRequest({
            channelId: channelId,
            operator: operator.addr,
            nonce: nonce,
            model: keccak256("model"),
            promptHash: keccak256("prompt"),
            maxInputTokens: 1200,
            maxOutputTokens: 340,
            inputPrice: 150_000,
            outputPrice: 600_001,
            deadline: uint64(block.timestamp) + 60
        });
    }

    /// @dev The most that an honest operator can bill: all the tokens, at the full price. 384.00034 is rounded up.
    function makeBill(IExecutorRegistry.InferenceRequest memory request)
        internal
        view
        returns (IExecutorRegistry.UsageBill memory)
    {
        return IExecutorRegistry.UsageBill({
            channelId: request.channelId,
            requestHash: hashOf(request),
            responseHash: keccak256("response"),
            inputTokens: 1200,
            outputTokens: 340,
            amount: 385,
            completedAt: uint64(block.timestamp)
        });
    }

    /// @dev An overcharge: one base unit too many.
    function makeOvercharge(uint256 nonce)
        internal
        view
        returns (IExecutorRegistry.InferenceRequest memory request, IExecutorRegistry.UsageBill memory bill)
    {
        request = makeRequest(nonce);
        bill = makeBill(request);
        ++bill.amount;
    }

    /// @dev A double bill: the second pays one base unit less.
    function makeDoubleBill(uint256 nonce)
        internal
        view
        returns (IExecutorRegistry.UsageBill memory first, IExecutorRegistry.UsageBill memory second)
    {
        first = makeBill(makeRequest(nonce));
        second = makeBill(makeRequest(nonce));
        --second.amount;
    }

    function hashOf(IExecutorRegistry.InferenceRequest memory request) internal pure returns (bytes32) {
        return keccak256(abi.encode(keccak256(bytes(REQUEST_TYPE)), request));
    }

    function hashOf(IExecutorRegistry.UsageBill memory bill) internal pure returns (bytes32) {
        return keccak256(abi.encode(keccak256(bytes(BILL_TYPE)), bill));
    }

    function digestOf(IExecutorRegistry.UsageBill memory bill) internal view returns (bytes32) {
        return typedDigest(settlementDomain(), hashOf(bill));
    }

    function sign(Account memory by, IExecutorRegistry.UsageBill memory bill) internal view returns (bytes memory) {
        return signDigest(by, digestOf(bill));
    }

    function signDigest(Account memory by, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(by.key, digest);
        return abi.encodePacked(r, s, v);
    }

    /// @dev Another valid signature over the same bill, which no wallet makes: with a nonce of our own choice.
    function signAnew(Account memory by, IExecutorRegistry.UsageBill memory bill) internal returns (bytes memory) {
        uint256 nonce = 42;
        Vm.Wallet memory point = vm.createWallet(nonce); // its public key is `nonce * G`
        uint256 product = mulmod(point.publicKeyX, by.key, ORDER);
        uint256 sum = addmod(uint256(digestOf(bill)), product, ORDER);
        uint256 s = mulmod(Math.invModPrime(nonce, ORDER), sum, ORDER);
        bool isHigh = s > ORDER / 2;
        if (isHigh) s = ORDER - s;
        bool isOdd = (point.publicKeyY & 1 == 1) != isHigh;
        return abi.encodePacked(point.publicKeyX, s, isOdd ? uint8(28) : uint8(27));
    }

    // --- Reports ---

    /// @dev Reports an overcharge signed by the operator.
    function reportOvercharge(uint256 nonce) internal {
        (IExecutorRegistry.InferenceRequest memory request, IExecutorRegistry.UsageBill memory bill) =
            makeOvercharge(nonce);
        bytes memory signature = sign(operator, bill);
        vm.prank(reporter);
        registry.proveOvercharge(request, bill, signature);
    }

    /// @dev Reports a double bill signed by the operator.
    function reportDoubleBill(uint256 nonce) internal {
        (IExecutorRegistry.UsageBill memory first, IExecutorRegistry.UsageBill memory second) = makeDoubleBill(nonce);
        (bytes memory firstSignature, bytes memory secondSignature) = (sign(operator, first), sign(operator, second));
        vm.prank(reporter);
        registry.proveDoubleBill(first, firstSignature, second, secondSignature);
    }
}
