// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

/// @notice Answers nothing to transfers, like the oldest tokens.
contract SilentToken {
    mapping(address => uint256) public balanceOf;

    function mint(address to, uint256 amount) external {
        balanceOf[to] += amount;
    }

    function transfer(address to, uint256 amount) external {
        balanceOf[msg.sender] -= amount;
        balanceOf[to] += amount;
    }

    function transferFrom(address from, address to, uint256 amount) external {
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
    }
}

/// @notice An ERC-20 with one bad habit at a time.
contract FickleToken is ERC20("Fickle", "FCK") {
    bool public refuses; // answers false to transfers
    uint256 public fee; // taken from what is transferred
    address public exempt; // pays no fee
    address public blocked; // nothing may be transferred to it
    address public hooked; // called inside transfers
    bytes public hook;
    bool public hookSucceeded;

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function setRefuses(bool on) external {
        refuses = on;
    }

    function setFee(uint256 amount) external {
        fee = amount;
    }

    function setExempt(address account) external {
        exempt = account;
    }

    function setBlocked(address account) external {
        blocked = account;
    }

    /// @dev Leaves `account` with `balance`, without a transfer.
    function rebase(address account, uint256 balance) external {
        _burn(account, balanceOf(account));
        _mint(account, balance);
    }

    /// @dev Once, inside the next transfer, before money moves.
    function setHook(address to, bytes calldata call) external {
        (hooked, hook) = (to, call);
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        return !refuses && super.transfer(to, amount);
    }

    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        return !refuses && super.transferFrom(from, to, amount);
    }

    function _update(address from, address to, uint256 amount) internal override {
        require(to != blocked || to == address(0), "blocked");
        address target = hooked;
        if (target != address(0)) {
            hooked = address(0);
            (hookSucceeded,) = target.call(hook);
        }
        super._update(from, to, amount);
        if (fee != 0 && from != exempt && from != address(0) && to != address(0)) {
            super._update(to, address(0xfee), fee);
        }
    }
}

/// @notice An account that does as it is told when called, for hooks that need a caller with rights of its own.
contract Accomplice {
    function act(address target, bytes calldata call) external returns (bool success) {
        (success,) = target.call(call);
    }

    /// @dev Reverts when the call does.
    function insist(address target, bytes calldata call) external {
        (bool success,) = target.call(call);
        require(success, "refused");
    }
}

/// @notice A token whose `receiveWithAuthorization` looks at no signature, and takes money of nobody's for money; with the
/// bad habits of `FickleToken` besides.
contract LaxToken is FickleToken {
    bool public idle; // says yes and does nothing
    uint8 private _decimals = 18;

    function setIdle(bool on) external {
        idle = on;
    }

    function setDecimals(uint8 to) external {
        _decimals = to;
    }

    function decimals() public view override returns (uint8) {
        return _decimals;
    }

    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256,
        uint256,
        bytes32,
        bytes calldata
    ) external {
        if (!idle) _update(from, to, value);
    }
}

/// @notice An EIP-3009 token as the standard has it: signatures come as `(v, r, s)` alone.
contract CanonicalToken is ERC3009 {
    constructor() ERC20("Canonical", "CAN") EIP712("Lloom Dev Token", "1") {}

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }
}

/// @notice A token whose permits call somebody, and permit nothing.
contract CallingPermitToken is FickleToken {
    function permit(address, address, uint256, uint256, uint8, bytes32, bytes32) external {
        address target = hooked;
        hooked = address(0);
        (hookSucceeded,) = target.call(hook);
    }
}

/// @notice A token whose transfers cost as much gas as one likes, all of it where that is most.
contract ExpensiveToken is ERC20("Expensive", "EXP") {
    uint256 public cost;

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function setCost(uint256 gas_) external {
        cost = gas_;
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        uint256 begun = gasleft();
        uint256 cost_ = cost;
        if (cost_ == type(uint256).max) {
            assembly {
                invalid()
            }
        }
        while (begun - gasleft() < cost_) {}
        return super.transfer(to, amount);
    }
}

/// @notice A token that says yes to functions it doesn't have, as wrapped Ether does.
contract PhantomToken is ERC20("Phantom", "PHA") {
    fallback() external {}

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }
}
