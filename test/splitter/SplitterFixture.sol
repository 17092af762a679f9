// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "../Fixture.sol";
import {IRevenueSplitter} from "lloom/interfaces/IRevenueSplitter.sol";

/// @notice The fixture with a splitter for its payee: 70 % to the host, 20 % to validators, 10 % to a treasury. The host
/// has named the operator. What "the payee" signs here, the host signs: nobody else could.
abstract contract SplitterFixture is Fixture {
    IRevenueSplitter internal splitter;
    Account internal host;
    address internal validators;
    address internal treasury;

    function setUp() public virtual override {
        super.setUp();
        host = makeAccount("host");
        validators = makeAddr("validators");
        treasury = makeAddr("treasury");
        useSplitter(create(host.addr, validators, treasury, 7000, 2000, 1000));
    }

    function create(
        address host_,
        address validators_,
        address treasury_,
        uint16 hostShare,
        uint16 validatorsShare,
        uint16 treasuryShare
    ) internal returns (IRevenueSplitter) {
        return IRevenueSplitter(
            deployCode(
                "RevenueSplitter",
                abi.encode(
                    address(registry),
                    address(escrow),
                    IRevenueSplitter.Parties(host_, validators_, treasury_),
                    IRevenueSplitter.Shares(hostShare, validatorsShare, treasuryShare)
                )
            )
        );
    }

    function useSplitter(IRevenueSplitter splitter_) internal {
        splitter = splitter_;
        payee = Account(address(splitter), host.key);
        vm.prank(host.addr);
        splitter.addOperator(operator.addr);
    }

    function releaseAll() internal {
        splitter.release(address(token), host.addr);
        splitter.release(address(token), validators);
        splitter.release(address(token), treasury);
    }

    function assertShared(uint256 hosts, uint256 validatorss, uint256 treasurys) internal view {
        assertEq(token.balanceOf(host.addr), hosts);
        assertEq(token.balanceOf(validators), validatorss);
        assertEq(token.balanceOf(treasury), treasurys);
    }
}
