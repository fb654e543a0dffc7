//go:build !linux

package main

// widen is for Linux.
func widen() {}
