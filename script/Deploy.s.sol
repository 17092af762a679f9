// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Script, console} from "forge-std/Script.sol";
import {VmSafe} from "forge-std/Vm.sol";
import {DevToken} from "lloom/DevToken.sol";
import {LloomDeployer} from "lloom/LloomDeployer.sol";

/// @notice Deploys Lloom at the addresses it has on every chain, and writes `deployments/<chainId>.json`, whose format
/// deployments/README.md describes.
/// @dev Only `--broadcast` writes the file, and it does so before the transactions are sent: if they fail, run it again.
/// `DEV_TOKEN=true` deploys the faucet token along.
contract Deploy is Script {
    /// @notice The chain has no CREATE2 proxy at its usual address.
    error Create2ProxyMissing();
    /// @notice The proxy did not create what it was sent.
    error CreationFailed();

    struct Deployment {
        LloomDeployer deployer;
        address token; // zero: none
        uint256 startBlock;
    }

    address internal constant CREATE2_PROXY = 0x4e59b44847b379578588920cA78FbF26c0B4956C;
    bytes32 internal constant SALT = bytes32(0);

    function run() external returns (Deployment memory deployment) {
        if (CREATE2_PROXY.code.length == 0) revert Create2ProxyMissing();

        // Taken before anything is sent. Of contracts found in place it is not known when they came.
        bool isNew = addressOf(type(LloomDeployer).creationCode).code.length == 0;
        deployment.startBlock = isNew ? block.number : recordedStartBlock();
        deployment.deployer = LloomDeployer(create(type(LloomDeployer).creationCode));
        deployment.token = vm.envOr("DEV_TOKEN", false) ? create(type(DevToken).creationCode) : recordedToken();

        console.log("deployer  ", address(deployment.deployer));
        console.log("escrow    ", address(deployment.deployer.ESCROW()));
        console.log("settlement", address(deployment.deployer.SETTLEMENT()));
        console.log("registry  ", address(deployment.deployer.REGISTRY()));
        if (deployment.token != address(0)) console.log("token     ", deployment.token);

        if (vm.isContext(VmSafe.ForgeContext.ScriptBroadcast)) write(deployment);
    }

    /// @notice Where `initCode` lands, on any chain.
    function addressOf(bytes memory initCode) public pure returns (address) {
        return vm.computeCreate2Address(SALT, keccak256(initCode), CREATE2_PROXY);
    }

    function create(bytes memory initCode) internal returns (address created) {
        created = addressOf(initCode);
        if (created.code.length != 0) return created;

        vm.broadcast();
        (bool success,) = CREATE2_PROXY.call(bytes.concat(SALT, initCode));
        if (!success || created.code.length == 0) revert CreationFailed();
    }

    function write(Deployment memory deployment) internal {
        LloomDeployer deployer = deployment.deployer;
        (address escrow, address settlement, address registry) =
            (address(deployer.ESCROW()), address(deployer.SETTLEMENT()), address(deployer.REGISTRY()));

        vm.serializeBytes32("codeHashes", "deployer", address(deployer).codehash);
        vm.serializeBytes32("codeHashes", "escrow", escrow.codehash);
        vm.serializeBytes32("codeHashes", "settlement", settlement.codehash);
        string memory codeHashes = vm.serializeBytes32("codeHashes", "registry", registry.codehash);

        vm.serializeUint("deployment", "chainId", block.chainid);
        vm.serializeAddress("deployment", "deployer", address(deployer));
        vm.serializeAddress("deployment", "escrow", escrow);
        vm.serializeAddress("deployment", "settlement", settlement);
        vm.serializeAddress("deployment", "registry", registry);
        if (deployment.token != address(0)) vm.serializeAddress("deployment", "token", deployment.token);
        vm.serializeUint("deployment", "startBlock", deployment.startBlock);
        vm.writeJson(vm.serializeString("deployment", "codeHashes", codeHashes), file());
    }

    /// @dev Zero, the safe answer, where no earlier run has left one.
    function recordedStartBlock() internal view returns (uint256) {
        if (!vm.exists(file())) return 0;
        // foundry.toml confines it to deployments/.
        // forge-lint: disable-next-line(unsafe-cheatcode)
        return vm.parseJsonUint(vm.readFile(file()), ".startBlock");
    }

    /// @dev Zero where no earlier run has deployed one.
    function recordedToken() internal view returns (address) {
        if (!vm.exists(file())) return address(0);
        // foundry.toml confines it to deployments/.
        // forge-lint: disable-next-line(unsafe-cheatcode)
        string memory recorded = vm.readFile(file());
        return vm.keyExistsJson(recorded, ".token") ? vm.parseJsonAddress(recorded, ".token") : address(0);
    }

    function file() internal view returns (string memory) {
        return string.concat(vm.projectRoot(), "/deployments/", vm.toString(block.chainid), ".json");
    }
}
