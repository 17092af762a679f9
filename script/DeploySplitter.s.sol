// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Script, console} from "forge-std/Script.sol";
import {LloomDeployer} from "lloom/LloomDeployer.sol";
import {RevenueSplitter} from "lloom/RevenueSplitter.sol";
import {IRevenueSplitter} from "lloom/interfaces/IRevenueSplitter.sol";

/// @notice Deploys a splitter beside Lloom's contracts on this chain.
/// @dev `HOST`, `VALIDATORS` and `TREASURY` are the accounts; `HOST_SHARE`, `VALIDATORS_SHARE` and `TREASURY_SHARE` their
/// basis points, where those of the LLMESH paper are not wanted. Any key may deploy: it gains no power.
contract DeploySplitter is Script {
    /// @notice This version of Lloom is not on this chain: script/Deploy.s.sol puts it there.
    error LloomMissing(address deployer);

    function run() external returns (RevenueSplitter) {
        return deploy(
            IRevenueSplitter.Parties({
                host: vm.envAddress("HOST"),
                validators: vm.envAddress("VALIDATORS"),
                treasury: vm.envAddress("TREASURY")
            }),
            IRevenueSplitter.Shares({
                host: basisPoints("HOST_SHARE", 7000),
                validators: basisPoints("VALIDATORS_SHARE", 2000),
                treasury: basisPoints("TREASURY_SHARE", 1000)
            })
        );
    }

    function deploy(IRevenueSplitter.Parties memory parties, IRevenueSplitter.Shares memory shares)
        public
        returns (RevenueSplitter splitter)
    {
        // Where script/Deploy.s.sol puts it: by the same proxy, with the same salt.
        address deployer = vm.computeCreate2Address(bytes32(0), keccak256(type(LloomDeployer).creationCode));
        if (deployer.code.length == 0) revert LloomMissing(deployer);
        address registry = address(LloomDeployer(deployer).REGISTRY());
        address escrow = address(LloomDeployer(deployer).ESCROW());

        vm.broadcast();
        splitter = new RevenueSplitter(registry, escrow, parties, shares);
        console.log("splitter  ", address(splitter));
    }

    function basisPoints(string memory name, uint256 otherwise) internal view returns (uint16) {
        return SafeCast.toUint16(vm.envOr(name, otherwise));
    }
}
