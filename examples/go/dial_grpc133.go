//go:build grpc133

// For Debian 12's packages: gRPC 1.33, beside a protobuf runtime that doesn't know what today's protoc-gen-go writes.
// go build -tags grpc133

package main

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/protobuf/proto"
)

func dial(address string, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.Dial(address, append(options, grpc.WithInsecure())...)
}

type codec struct{}

func init() { encoding.RegisterCodec(codec{}) }

func (codec) Name() string { return "proto" }

func (codec) Marshal(message interface{}) ([]byte, error) {
	return proto.Marshal(message.(proto.Message))
}

func (codec) Unmarshal(data []byte, message interface{}) error {
	return proto.Unmarshal(data, message.(proto.Message))
}
