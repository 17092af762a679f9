// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @notice As little of a token as the escrow calls, with accounts that may be barred from receiving. Small, because a
/// solver follows every path through it; all of its storage is arbitrary in a proof.
contract PlainToken {
    mapping(address account => uint256) public balanceOf;
    mapping(address account => bool) public barred;

    function transfer(address to, uint256 amount) external returns (bool) {
        return move(msg.sender, to, amount);
    }

    /// @dev Allowances are the token's business, and no part of what is proven of the escrow.
    function transferFrom(address from, address to, uint256 amount) external returns (bool) {
        return move(from, to, amount);
    }

    function move(address from, address to, uint256 amount) private returns (bool) {
        if (barred[to] || balanceOf[from] < amount) return false;
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
        return true;
    }
}
