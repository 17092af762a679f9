// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Deploy} from "./Deploy.s.sol";
import {console} from "forge-std/Script.sol";
import {LloomDeployer} from "lloom/LloomDeployer.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";

/// @notice Checks a live deployment against the sources: that what runs at Lloom's addresses is what these sources
/// compile to, and that the chain can run it.
/// @dev `forge script script/Doctor.s.sol --sig 'run(string)' $RPC`. Sends nothing. Reverts, so that the command fails, when
/// anything is wrong.
contract Doctor is Deploy {
    /// @notice So many checks failed; each has printed a line.
    error Unhealthy(uint256 faults);

    /// @notice A contract as it has to be.
    struct Wanted {
        string name;
        address location;
        bytes32 codeHash;
    }

    /// @param rpc Endpoint of the chain to look at.
    function run(string calldata rpc) external {
        Wanted[] memory wanted = wantedOnEveryChain();
        vm.createSelectFork(rpc);
        uint256 faults = examine(wanted);
        if (faults != 0) revert Unhealthy(faults);
        console.log("This is Lloom, as these sources have it.");
    }

    /// @notice What the sources compile to, by deploying them where this runs: the addresses and the code are the same on
    /// every chain.
    function wantedOnEveryChain() public returns (Wanted[] memory wanted) {
        uint256 snapshot = vm.snapshotState();
        LloomDeployer deployer = LloomDeployer(create(type(LloomDeployer).creationCode));
        wanted = new Wanted[](4);
        wanted[0] = wantedOf("deployer", address(deployer));
        wanted[1] = wantedOf("registry", address(deployer.REGISTRY()));
        wanted[2] = wantedOf("escrow", address(deployer.ESCROW()));
        wanted[3] = wantedOf("settlement", address(deployer.SETTLEMENT()));
        vm.revertToState(snapshot);
    }

    function wantedOf(string memory name, address location) private view returns (Wanted memory) {
        return Wanted({name: name, location: location, codeHash: location.codehash});
    }

    /// @notice Looks at the chain this runs on.
    /// @return faults How many checks failed.
    function examine(Wanted[] memory wanted) public view returns (uint256 faults) {
        console.log("chain", block.chainid);
        if (CREATE2_PROXY.code.length == 0) console.log("note: no CREATE2 proxy; nothing can be deployed here");
        for (uint256 i = 0; i < wanted.length; ++i) {
            if (!examineCode(wanted[i])) ++faults;
        }
        if (faults != 0) return faults;

        IChannelEscrow escrow = IChannelEscrow(wanted[2].location);
        if (escrow.PERMIT2().code.length == 0) {
            console.log("note: no Permit2; its two entry points can't be used here");
        }
        if (!answersOwnChain(escrow)) ++faults;
    }

    function examineCode(Wanted memory wanted) private view returns (bool) {
        if (wanted.location.codehash == wanted.codeHash) {
            console.log("ok   ", wanted.name, wanted.location);
            return true;
        }
        if (wanted.location.code.length == 0) console.log("FAULT", wanted.name, "is not deployed at", wanted.location);
        else console.log("FAULT", wanted.name, "has other code than these sources, at", wanted.location);
        return false;
    }

    /// @dev The right code on an EVM that can't run it, or that lies about its chain id, gives another answer.
    function answersOwnChain(IChannelEscrow escrow) private view returns (bool) {
        bytes32 typeHash =
            keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        bytes32 separator = keccak256(
            abi.encode(typeHash, keccak256("EVM Payment Channel"), keccak256("1"), block.chainid, address(escrow))
        );
        try escrow.domainSeparator() returns (bytes32 answer) {
            if (answer == separator) return true;
        } catch {}
        console.log("FAULT the escrow doesn't speak for this chain: its signatures would be worth nothing");
        return false;
    }
}
