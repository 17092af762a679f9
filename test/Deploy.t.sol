// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Deploy} from "../script/Deploy.s.sol";
import {Test} from "forge-std/Test.sol";
import {ChannelEscrow} from "lloom/ChannelEscrow.sol";
import {DevToken} from "lloom/DevToken.sol";
import {ExecutorRegistry} from "lloom/ExecutorRegistry.sol";
import {LloomDeployer} from "lloom/LloomDeployer.sol";
import {UsageSettlement} from "lloom/UsageSettlement.sol";

contract DeployTest is Test {
    Deploy private script;

    function setUp() public {
        script = new Deploy();
    }

    function assertJoined(LloomDeployer deployer) private view {
        (ChannelEscrow escrow, UsageSettlement settlement, ExecutorRegistry registry) =
            (deployer.ESCROW(), deployer.SETTLEMENT(), deployer.REGISTRY());
        assertEq(address(registry), vm.computeCreateAddress(address(deployer), 1));
        assertEq(address(escrow), vm.computeCreateAddress(address(deployer), 2));
        assertEq(address(settlement), vm.computeCreateAddress(address(deployer), 3));
        assertEq(escrow.SETTLEMENT(), address(settlement));
        assertEq(settlement.ESCROW(), address(escrow));
        assertEq(settlement.REGISTRY(), address(registry));
        assertEq(registry.ESCROW(), address(escrow));
        assertEq(registry.SETTLEMENT(), address(settlement));
    }

    function test_DeployerJoinsTheThree() public {
        assertJoined(new LloomDeployer());
    }

    function testFuzz_DeployerJoinsThemWhereverItIs(address creator, uint64 nonce) public {
        assumeNotPrecompile(creator);
        vm.assume(creator.code.length == 0 && creator != address(0));
        vm.setNonceUnsafe(creator, uint64(bound(nonce, 0, type(uint64).max - 2)));
        vm.prank(creator);
        assertJoined(new LloomDeployer());
    }

    function test_AddressesAndCodeAreTheSameOnEveryChain() public {
        uint256 snapshot = vm.snapshotState();
        LloomDeployer here = script.run().deployer;
        bytes32[4] memory hashes = codeHashes(here);
        vm.revertToState(snapshot);

        vm.chainId(8453);
        LloomDeployer there = script.run().deployer;
        assertEq(address(here), address(there));
        bytes32[4] memory others = codeHashes(there);
        for (uint256 i = 0; i < hashes.length; ++i) {
            assertEq(hashes[i], others[i]);
        }
    }

    function codeHashes(LloomDeployer deployer) private view returns (bytes32[4] memory) {
        return [
            address(deployer).codehash,
            address(deployer.ESCROW()).codehash,
            address(deployer.SETTLEMENT()).codehash,
            address(deployer.REGISTRY()).codehash
        ];
    }

    function test_RunsTwiceWithTheSameResult() public {
        Deploy.Deployment memory first = script.run();
        vm.roll(block.number + 100);
        Deploy.Deployment memory second = script.run();
        assertEq(address(first.deployer), address(second.deployer));
        assertEq(first.startBlock, 1);
        assertEq(second.startBlock, 0, "nobody recorded when the contracts came");
    }

    function test_DeploysNoTokenUnasked() public {
        assertEq(script.run().token, address(0));
        assertEq(script.addressOf(type(DevToken).creationCode).code.length, 0);
    }

    function test_WritesNothingWithoutBroadcast() public {
        vm.chainId(424_242);
        script.run();
        assertFalse(vm.exists(string.concat(vm.projectRoot(), "/deployments/424242.json")));
    }

    function test_RevertWhen_ChainHasNoCreate2Proxy() public {
        vm.etch(0x4e59b44847b379578588920cA78FbF26c0B4956C, "");
        vm.expectRevert(Deploy.Create2ProxyMissing.selector);
        script.run();
    }
}
