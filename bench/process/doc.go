// Package process starts the separate processes of a measurement (engine, load, sink) and reads what they cost from
// the kernel: CPU, memory beyond the page cache, bytes written.
//
// It knows nothing of mail. It must never leave a process behind: every child ends with Stop or Kill, and with its
// parent (Linux: parent-death signal).
package process
