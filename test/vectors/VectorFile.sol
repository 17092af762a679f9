// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IDevToken} from "../IDevToken.sol";
import {Test} from "forge-std/Test.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {IUsageSettlement} from "lloom/interfaces/IUsageSettlement.sol";

/// @notice The file of test vectors, and the contracts that its domains name.
abstract contract VectorFile is Test {
    struct Vector {
        string name;
        string encodedType;
        Domain domain;
        bytes32 domainSeparator;
        bytes32 structHash;
        bytes32 digest;
        address signer;
        bytes signature;
        bytes compactSignature;
    }

    /// @dev Its name and version stand in the test.
    struct Domain {
        uint256 chainId;
        address verifyingContract;
    }

    struct Derivation {
        string name;
        string kind;
        bytes encoded;
        bytes32 hash;
    }

    string internal constant FILE = "test/vectors/eip712.json";
    string internal constant VECTOR =
        "Vector(string name,string encodedType,Domain domain,bytes32 domainSeparator,bytes32 structHash,bytes32 digest,address signer,bytes signature,bytes compactSignature)Domain(uint256 chainId,address verifyingContract)";
    string internal constant DERIVATION = "Derivation(string name,string kind,bytes encoded,bytes32 hash)";

    // --- The contract whose domain it is, there and on its chain ---

    function escrowOf(Domain memory domain) internal returns (IChannelEscrow) {
        deployIn(domain, "ChannelEscrow", abi.encode(address(0)));
        return IChannelEscrow(domain.verifyingContract);
    }

    function settlementOf(Domain memory domain) internal returns (IUsageSettlement) {
        deployIn(domain, "UsageSettlement", abi.encode(address(0), address(0)));
        return IUsageSettlement(domain.verifyingContract);
    }

    function tokenOf(Domain memory domain) internal returns (IDevToken) {
        deployIn(domain, "DevToken", "");
        return IDevToken(domain.verifyingContract);
    }

    function deployIn(Domain memory domain, string memory what, bytes memory args) internal {
        vm.chainId(domain.chainId);
        if (domain.verifyingContract.code.length == 0) deployCodeTo(what, args, domain.verifyingContract);
    }

    // --- The file ---

    /// @dev The vectors of one type, by the whole of its type string, and their messages encoded. There are some.
    function load(string memory encodedType) internal view returns (Vector[] memory vectors, bytes[] memory messages) {
        string memory file = vm.readFile(FILE);
        Vector[] memory all = allVectors(file);
        (vectors, messages) = (new Vector[](all.length), new bytes[](all.length));
        uint256 count = 0;
        for (uint256 i = 0; i < all.length; ++i) {
            if (!same(all[i].encodedType, encodedType)) continue;
            vectors[count] = all[i];
            messages[count] = vm.parseJsonType(file, pathOf(".vectors", i, ".message"), encodedType);
            ++count;
        }
        assertGt(count, 0, encodedType);
        assembly ("memory-safe") {
            mstore(vectors, count)
            mstore(messages, count)
        }
    }

    /// @dev The derivations of one kind, and their inputs encoded. There are some.
    function loadDerivations(string memory kind, string memory inputsType)
        internal
        view
        returns (Derivation[] memory derivations, bytes[] memory inputs)
    {
        string memory file = vm.readFile(FILE);
        Derivation[] memory all = allDerivations(file);
        (derivations, inputs) = (new Derivation[](all.length), new bytes[](all.length));
        uint256 count = 0;
        for (uint256 i = 0; i < all.length; ++i) {
            if (!same(all[i].kind, kind)) continue;
            derivations[count] = all[i];
            inputs[count] = vm.parseJsonType(file, pathOf(".derivations", i, ".inputs"), inputsType);
            ++count;
        }
        assertGt(count, 0, kind);
        assembly ("memory-safe") {
            mstore(derivations, count)
            mstore(inputs, count)
        }
    }

    function allVectors(string memory file) internal pure returns (Vector[] memory) {
        return abi.decode(vm.parseJsonTypeArray(file, ".vectors", VECTOR), (Vector[]));
    }

    function allDerivations(string memory file) internal pure returns (Derivation[] memory) {
        return abi.decode(vm.parseJsonTypeArray(file, ".derivations", DERIVATION), (Derivation[]));
    }

    function pathOf(string memory list, uint256 index, string memory key) internal pure returns (string memory) {
        return string.concat(list, "[", vm.toString(index), "]", key);
    }

    function same(string memory a, string memory b) internal pure returns (bool) {
        return keccak256(bytes(a)) == keccak256(bytes(b));
    }
}
