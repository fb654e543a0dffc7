//go:build !linux

package main

import "errors"

var errLinuxOnly = errors.New("this can be told on Linux only")

func freeSpace(string) (uint64, bool, error) { return 0, false, errLinuxOnly }

func readAhead(string) (int, bool) { return 0, false }

func fileLimit() (uint64, bool) { return 0, false }

func secretMemory() error { return errLinuxOnly }

func keyring() error { return errLinuxOnly }

func swaps() (int, bool) { return 0, false }

func clockSynced() (synced, known bool) { return false, false }
