// Command generate writes the Go code of Steeple's protocol into internal/wire, from the same definitions that the
// nodes and the plugin are built from. It needs no protoc: the definitions are compiled in this process, and the two generators are
// tools of this module with pinned versions. Run it in its own directory: go run .
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

const (
	module = "steeple.internal/adapters/spire"
	output = ".."
)

// definitions are the nodes' own, and what a SPIRE server and its plugins say to each other.
var definitions = []string{"../../../client/wire/proto", "../../../plugin/proto"}

// packages says which definitions are needed, and which Go package each becomes.
var packages = [][2]string{
	{"steeple/common/v1/context.proto", "internal/wire/commonv1"},
	{"steeple/spire/v1/types.proto", "internal/wire/spirev1"},
	{"steeple/spire/v1/datastore.proto", "internal/wire/spirev1"},
	{"steeple/admin/v1/admin.proto", "internal/wire/adminv1"},
	{"spire/plugin/server/datastore/v1alpha1/datastore.proto", "internal/wire/datastorev1alpha1"},
}

func main() {
	if err := generate(); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func generate() error {
	request, err := compile()
	if err != nil {
		return err
	}
	for _, tool := range []string{"protoc-gen-go", "protoc-gen-go-grpc"} {
		if err := run(tool, request); err != nil {
			return fmt.Errorf("%s: %w", tool, err)
		}
	}
	return nil
}

// compile reads the definitions and asks for code of all of them.
func compile() (*pluginpb.CodeGeneratorRequest, error) {
	names := make([]string, 0, len(packages))
	parameters := []string{"module=" + module}
	for _, entry := range packages {
		names = append(names, entry[0])
		parameters = append(parameters, fmt.Sprintf("M%s=%s/%s", entry[0], module, entry[1]))
	}
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: definitions}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := compiler.Compile(context.Background(), names...)
	if err != nil {
		return nil, err
	}
	request := &pluginpb.CodeGeneratorRequest{
		FileToGenerate: names,
		Parameter:      proto.String(strings.Join(parameters, ",")),
	}
	added := map[string]bool{}
	for _, file := range files {
		request.ProtoFile = withImports(request.ProtoFile, file, added)
	}
	return request, nil
}

// withImports appends a file behind everything that it imports.
func withImports(
	list []*descriptorpb.FileDescriptorProto, file protoreflect.FileDescriptor, added map[string]bool,
) []*descriptorpb.FileDescriptorProto {
	if added[file.Path()] {
		return list
	}
	added[file.Path()] = true
	for index := range file.Imports().Len() {
		list = withImports(list, file.Imports().Get(index).FileDescriptor, added)
	}
	return append(list, protoutil.ProtoFromFileDescriptor(file))
}

// run lets one generator work and writes what it made.
func run(tool string, request *pluginpb.CodeGeneratorRequest) error {
	input, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	command := exec.Command("go", "tool", tool)
	command.Stdin = bytes.NewReader(input)
	command.Stderr = os.Stderr
	answer, err := command.Output()
	if err != nil {
		return err
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(answer, &response); err != nil {
		return err
	}
	if response.Error != nil {
		return fmt.Errorf("%s", response.GetError())
	}
	for _, file := range response.File {
		path := filepath.Join(output, filepath.FromSlash(file.GetName()))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(file.GetContent()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
