package steeple

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/spire/pkg/common/catalog"
	"github.com/spiffe/spire/proto/spire/common"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"steeple.internal/adapters/spire/internal/wire/datastorev1alpha1"
)

// The external plugin is loaded, configured, called and ended by the code of SPIRE's that does so for every plugin, with
// the library that it uses for it. Only the plugin's type is ours: no released server has one for the datastore.

// pluginFacade is what a server would wrap the plugin in.
type pluginFacade struct {
	datastorev1alpha1.DataStoreClient
}

func (*pluginFacade) GRPCServiceName() string {
	return datastorev1alpha1.DataStore_ServiceDesc.ServiceName
}

func (facade *pluginFacade) InitClient(connection grpc.ClientConnInterface) any {
	facade.DataStoreClient = datastorev1alpha1.NewDataStoreClient(connection)
	return facade.DataStoreClient
}

func (*pluginFacade) InitInfo(catalog.PluginInfo)     {}
func (*pluginFacade) InitLog(logrus.FieldLogger)      {}
func (facade *pluginFacade) bind(bound *pluginFacade) { *facade = *bound }

type pluginVersion struct{}

func (pluginVersion) New() catalog.Facade { return new(pluginFacade) }
func (pluginVersion) Deprecated() bool    { return false }

// pluginRepository is the part of a server's catalog that is about datastores.
type pluginRepository struct {
	bound *pluginFacade
}

func (repository *pluginRepository) Plugins() map[string]catalog.PluginRepo {
	return map[string]catalog.PluginRepo{"DataStore": repository}
}
func (*pluginRepository) Services() []catalog.ServiceRepo  { return nil }
func (*pluginRepository) Constraints() catalog.Constraints { return catalog.MaybeOne() }
func (*pluginRepository) BuiltIns() []catalog.BuiltIn      { return nil }
func (repository *pluginRepository) Binder() any           { return repository.bound.bind }
func (*pluginRepository) Versions() []catalog.Version      { return []catalog.Version{pluginVersion{}} }
func (repository *pluginRepository) Clear()                { repository.bound.DataStoreClient = nil }

func loadPlugin(t *testing.T, program, block string) (*catalog.Catalog, *pluginFacade, *test.Hook, error) {
	t.Helper()
	log, hook := test.NewNullLogger()
	log.SetLevel(logrus.DebugLevel)
	repository := &pluginRepository{bound: new(pluginFacade)}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	loaded, err := catalog.Load(ctx, catalog.Config{
		Log:        log,
		CoreConfig: catalog.CoreConfig{TrustDomain: spiffeid.RequireTrustDomainFromString("td.example")},
		PluginConfigs: []catalog.PluginConfig{{
			Type: "DataStore", Name: "steeple", Path: program, Args: []string{"spire-plugin"},
			Checksum: checksum(t, program), DataSource: catalog.FixedData(block),
		}},
	}, repository)
	return loaded, repository.bound, hook, err
}

func checksum(t *testing.T, path string) string {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	sum := sha256.New()
	_, err = io.Copy(sum, file)
	require.NoError(t, err)
	return hex.EncodeToString(sum.Sum(nil))
}

func TestSPIRELoadsThePlugin(t *testing.T) {
	for _, nodes := range []int{1, 3} {
		g := startGroup(t, nodes)
		begun := time.Now()
		loaded, datastore, hook, err := loadPlugin(t, g.program, g.configuration("plugin"))
		require.NoError(t, err)
		took := time.Since(begun)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()

		content, err := proto.Marshal(&common.Bundle{
			TrustDomainId: "spiffe://td.example", RefreshHint: 60,
			RootCas: []*common.Certificate{{DerBytes: make([]byte, 5<<20), TaintedKey: true}},
		})
		require.NoError(t, err)
		bundle := &datastorev1alpha1.Bundle{TrustDomainId: "spiffe://td.example", Data: content}
		created, err := datastore.CreateBundle(ctx, &datastorev1alpha1.CreateBundleRequest{Bundle: bundle})
		require.NoError(t, err)
		read := new(common.Bundle)
		require.NoError(t, proto.Unmarshal(created.Bundle.Data, read))
		require.Equal(t, int64(60), read.RefreshHint)
		require.True(t, read.RootCas[0].TaintedKey)
		_, err = datastore.CreateBundle(ctx, &datastorev1alpha1.CreateBundleRequest{Bundle: bundle})
		require.Equal(t, codes.AlreadyExists, status.Code(err))

		entry := &datastorev1alpha1.RegistrationEntry{
			EntryId: "one", ParentId: "spiffe://td.example/agent", SpiffeId: "spiffe://td.example/one",
			Selectors: []*datastorev1alpha1.Selector{{Type: "unix", Value: "uid:0"}},
		}
		stored, err := datastore.CreateOrReturnRegistrationEntry(ctx,
			&datastorev1alpha1.CreateOrReturnRegistrationEntryRequest{Entry: entry})
		require.NoError(t, err)
		require.True(t, stored.Created)
		if nodes > 1 {
			// The plugin goes on through an election, and the entry is still there.
			g.kill(0)
		}
		found, err := datastore.FetchRegistrationEntry(ctx, &datastorev1alpha1.FetchRegistrationEntryRequest{EntryId: "one"})
		require.NoError(t, err)
		require.True(t, proto.Equal(stored.Entry, found.Entry), "%v", found.Entry)
		_, err = datastore.DeleteRegistrationEntry(ctx, &datastorev1alpha1.DeleteRegistrationEntryRequest{EntryId: "one"})
		require.NoError(t, err)
		_, err = datastore.DeleteRegistrationEntry(ctx, &datastorev1alpha1.DeleteRegistrationEntryRequest{EntryId: "one"})
		require.Equal(t, codes.NotFound, status.Code(err))
		require.Equal(t, "datastore-sql: record not found", status.Convert(err).Message())

		begun = time.Now()
		require.NoError(t, loaded.Close())
		require.Less(t, time.Since(begun), 2*time.Second, "the host kills a plugin that takes longer")
		t.Logf("%d nodes: loaded and configured in %s, ended in %s", nodes, took.Round(time.Millisecond),
			time.Since(begun).Round(time.Millisecond))
		lines := map[string]*logrus.Entry{}
		for _, line := range hook.AllEntries() {
			require.NotContains(t, line.Message, "Unsupported plugin service", "names that nobody knows")
			require.NotContains(t, line.Message, "failed to exit gracefully")
			lines[line.Message] = line
		}
		// What the plugin writes is in the server's log, with its level and fields.
		require.Contains(t, lines, "Connected to Steeple")
		require.Equal(t, logrus.InfoLevel, lines["Connected to Steeple"].Level)
		require.Equal(t, "plugin", lines["Connected to Steeple"].Data["namespace"])
		require.Equal(t, logrus.WarnLevel, lines["The namespace did not exist and was created empty"].Level)
	}
}

func TestSPIREIsToldWhatIsWrongWithAPluginsBlock(t *testing.T) {
	program := os.Getenv(programVariable)
	if program == "" {
		t.Skipf("%s does not name a steeple program", programVariable)
	}
	_, _, _, err := loadPlugin(t, program, `endpoint = ["127.0.0.1:1"]`)
	require.ErrorContains(t, err, `unknown key "endpoint"`)
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	_, _, _, err = loadPlugin(t, program, "endpoints = [\"127.0.0.1:1\"]\nstartup_timeout = \"200ms\"")
	require.ErrorContains(t, err, "cannot use 127.0.0.1:1")
}
