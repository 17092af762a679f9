// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {EscrowHandler} from "./EscrowHandler.sol";
import {Test} from "forge-std/Test.sol";

/// @notice What holds whatever anybody does, in any order:
/// 1. For every token, the escrow's holdings equal all balances plus `deposit - settled` of every channel not final,
///    gifts aside.
/// 2. `settled <= deposit`, and `settled` never falls.
/// 3. A payee receives or is credited exactly what was settled, a payer gets back exactly the rest, nobody else is paid.
/// 4. A finalized channel never changes again and can't be reopened.
/// 5. What a key signed within the deposit before the payer asked to close can be claimed at any time within grace.
/// 6. A batch equals its rows one by one, in order.
///
/// 1 to 4 are compared with the books (`Audit`), 5 is tried by `claimHeld` and, of all channels at once, when a run is
/// over (`windUp`), 6 is compared by every batch (`BatchHandler`). The handler asserts too what must be refused.
abstract contract EscrowCampaign is Test {
    EscrowHandler internal handler;

    function setUp() public virtual {
        handler = new EscrowHandler();
        targetContract(address(handler));
        targetSelector(FuzzSelector(address(handler), handler.allActions()));
        targetSender(address(this));
    }

    /// @dev One campaign checks all of it: the same calls need not be made for each.
    function invariant_HoldsWhateverAnybodyDoes() public view {
        handler.checkHoldings();
        handler.checkChannels();
        handler.checkAccounts();
    }

    /// @dev Not committed, like all that is done here.
    function afterInvariant() public {
        handler.windUp();
    }
}

/// @notice From an escrow in which nothing has ever happened.
contract NewEscrowInvariantTest is EscrowCampaign {
    /// @dev A campaign in which nothing happens proves nothing: any actions, at random, do everything there is to do.
    function test_TheHandlerReachesEveryAction() public {
        bytes4[] memory actions = handler.allActions();
        for (uint256 i = 0; i < 1500; ++i) {
            uint256 seed = uint256(keccak256(abi.encode(i)));
            (bool success,) = address(handler).call(abi.encodePacked(actions[seed % actions.length], seed));
            assertTrue(success);
        }
        invariant_HoldsWhateverAnybodyDoes();
        handler.windUp();
        for (uint256 i = 0; i < actions.length; ++i) {
            assertGt(handler.done(actions[i]), 0, vm.toString(abi.encodePacked(actions[i])));
        }
    }
}

/// @notice From one in full swing: two dozen channels, money and promises.
contract BusyEscrowInvariantTest is EscrowCampaign {
    function setUp() public override {
        super.setUp();
        handler.begin(1);
    }
}
