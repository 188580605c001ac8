//! The vocabulary of the product: positions, relations, tuples, changes, transactions. Pure.
