// Package multilock has the locks that are made of others: a multi lock, held if all its
// members are, and a quorum lock, held if a majority of them is.
package multilock
