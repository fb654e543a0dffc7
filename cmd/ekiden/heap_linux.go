package main

import (
	"runtime/debug"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// wideHeap is how much of the heap, in octets, is to lie in huge pages: what a node with a million waiting needs.
	wideHeap = 256 << 20
	hugePage = 2 << 20
)

// widen asks the kernel to back the beginning of the heap with huge pages, where it gives them to nobody who does not ask (docs/adr/0027).
// Go's heap keeps its addresses and fills them from the lowest on: so a block of that size is taken, marked and given back before
// anything else needs memory. Never touched, it costs none. Where the kernel refuses, the node works as well, at more CPU.
func widen() {
	block := make([]byte, wideHeap+hugePage)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(block))) % hugePage
	_ = unix.Madvise(block[skip:skip+wideHeap], unix.MADV_HUGEPAGE)
	debug.FreeOSMemory()
}
