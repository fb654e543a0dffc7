package rpc

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// jsonCodec writes messages with the names of admin.proto (in_flight, not inFlight) and with every field, as the
// contract shows them; it reads both spellings. 64-bit numbers are strings, as in every JSON form of protocol buffers.
type jsonCodec struct{}

func (jsonCodec) Name() string { return "json" }

func (jsonCodec) Marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is no protocol buffer", v)
	}
	return protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
}

func (jsonCodec) Unmarshal(data []byte, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is no protocol buffer", v)
	}
	if len(data) == 0 {
		data = []byte("{}") // curl without -d: a call without arguments
	}
	return protojson.Unmarshal(data, m)
}

func (jsonCodec) IsBinary() bool { return false }
