package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// prefixBytes stand before each gRPC message: a flag and its length.
const prefixBytes = 5

// readRequests gives the requests of a file, each as JSON.
func readRequests(path string) ([]json.RawMessage, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the requests (--data): %w", err)
	}
	var requests []json.RawMessage
	if err := json.Unmarshal(content, &requests); err != nil {
		return nil, fmt.Errorf("%s is no JSON array of requests: %w", path, err)
	}
	if len(requests) == 0 {
		return nil, fmt.Errorf("%s has no requests", path)
	}
	return requests, nil
}

// encode makes gRPC messages of the requests of an rpc, each with its prefix.
func encode(asked options, requests []json.RawMessage) ([][]byte, error) {
	input, err := inputOf(asked)
	if err != nil {
		return nil, err
	}
	encoded := make([][]byte, len(requests))
	for i, request := range requests {
		message := dynamicpb.NewMessage(input)
		if err := protojson.Unmarshal(request, message); err != nil {
			return nil, fmt.Errorf("request %d of %s: %w", i, asked.data, err)
		}
		body, err := proto.Marshal(message)
		if err != nil {
			return nil, fmt.Errorf("request %d of %s: %w", i, asked.data, err)
		}
		if len(body)+prefixBytes > windowBytesAtFirst {
			return nil, fmt.Errorf("request %d of %s has %d bytes, more than a stream takes at once", i, asked.data, len(body))
		}
		framed := make([]byte, prefixBytes, prefixBytes+len(body))
		binary.BigEndian.PutUint32(framed[1:], uint32(len(body)))
		encoded[i] = append(framed, body...)
	}
	return encoded, nil
}

// inputOf finds the message that an rpc takes in the .proto files.
func inputOf(asked options) (protoreflect.MessageDescriptor, error) {
	service, method, ok := strings.Cut(asked.call, "/")
	if !ok {
		return nil, fmt.Errorf("--call %q is not package.Service/Method", asked.call)
	}
	found, err := filepath.Glob(filepath.Join(asked.protos, "*", "*", "*.proto"))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, path := range found {
		name, err := filepath.Rel(asked.protos, path)
		if err != nil {
			return nil, err
		}
		names = append(names, filepath.ToSlash(name))
	}
	compiler := protocompile.Compiler{
		Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{asked.protos}}),
	}
	files, err := compiler.Compile(context.Background(), names...)
	if err != nil {
		return nil, fmt.Errorf("the .proto files of %s: %w", asked.protos, err)
	}
	for _, file := range files {
		declared := file.FindDescriptorByName(protoreflect.FullName(service))
		if declared, ok := declared.(protoreflect.ServiceDescriptor); ok {
			if rpc := declared.Methods().ByName(protoreflect.Name(method)); rpc != nil {
				return rpc.Input(), nil
			}
		}
	}
	return nil, fmt.Errorf("no .proto file of %s has the rpc %s", asked.protos, asked.call)
}
