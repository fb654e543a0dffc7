// Package adminpb holds the messages and stubs generated from admin.proto, the operator's RPC. It must never hold
// anything written by hand but this file; change admin.proto and run "make gen".
//
// The generators, installed once:
//
//	go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
//	go install connectrpc.com/connect/cmd/protoc-gen-connect-go@v1.21.1
//	apt-get install protobuf-compiler
package adminpb

//go:generate protoc --go_out=. --go_opt=paths=source_relative --connect-go_out=. --connect-go_opt=paths=source_relative,simple,package_suffix admin.proto
