package steeple

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/spire/pkg/server/datastore"
	"github.com/spiffe/spire/pkg/server/datastore/sqltest"
	"github.com/spiffe/spire/proto/spire/common"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"steeple.internal/adapters/spire/internal/wire/spirev1"
)

// SPIRE's own suite for datastores, from SPIRE's module as it is. It was written for SQL and looks behind the interface
// in a few places; suiteStore answers these.

// notApplicable are the suite's tests of what only an SQL database has.
var notApplicable = map[string]string{
	"TestInvalidPluginConfiguration": "kinds of SQL databases; ours is TestConfigurationFaults",
	"TestInvalidAWSConfiguration":    "settings of SQL databases at AWS",
	"TestInvalidMySQLConfiguration":  "settings of MySQL",
}

const (
	suiteSchemaVersion = 1
	suiteCodeVersion   = Version
)

func TestConformanceOneNode(t *testing.T) {
	runSuite(t, startGroup(t, 1))
}

func TestConformanceThreeNodes(t *testing.T) {
	runSuite(t, startGroup(t, 3))
}

func runSuite(t *testing.T, g *group) {
	for name, reason := range notApplicable {
		t.Logf("not applicable: %s (%s)", name, reason)
	}
	skipInapplicable(t)
	t.Chdir(suiteData(t))
	sqltest.Run(t, sqltest.Config{
		NewDataStore: func(log logrus.FieldLogger) sqltest.DataStoreUnderTest {
			return &suiteStore{DataStore: New(log), group: g, log: log}
		},
		ExpectedSchemaVersion: suiteSchemaVersion,
		ExpectedCodeVersion:   suiteCodeVersion,
	})
}

// skipInapplicable hands the suite's runner the names of the tests that are left: it has a flag for those to run, and
// none for those to leave out. What somebody chose on the command line stays.
func skipInapplicable(t *testing.T) {
	t.Helper()
	choice := flag.Lookup("testify.m")
	require.NotNil(t, choice)
	if choice.Value.String() != "" {
		return
	}
	var names []string
	suite := reflect.TypeFor[*sqltest.Suite]()
	for index := range suite.NumMethod() {
		name := suite.Method(index).Name
		if _, leftOut := notApplicable[name]; strings.HasPrefix(name, "Test") && !leftOut {
			names = append(names, regexp.QuoteMeta(name))
		}
	}
	t.Logf("%d of the suite's tests are run, %d are not applicable", len(names), len(notApplicable))
	require.NoError(t, choice.Value.Set("^("+strings.Join(names, "|")+")$"))
	t.Cleanup(func() { require.NoError(t, choice.Value.Set("")) })
}

// suiteData is the directory that the suite reads its fixtures from; they are part of SPIRE's module.
func suiteData(t *testing.T) string {
	t.Helper()
	listed, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/spiffe/spire").Output()
	require.NoError(t, err)
	directory := filepath.Join(string(bytes.TrimSpace(listed)), "pkg", "server", "datastore", "sqlstore")
	require.DirExists(t, filepath.Join(directory, "testdata"))
	return directory
}

// suiteStore is the adapter, with what the suite asks of an SQL database behind it.
type suiteStore struct {
	*DataStore
	group *group
	log   logrus.FieldLogger

	lock sync.Mutex
	// corrupt are relationships that no node accepts, so that only a damaged store could hold them.
	corrupt map[string]*spirev1.FederationRelationship
}

// Configure opens a namespace of its own for each database file of the suite.
func (s *suiteStore) Configure(ctx context.Context, text string) error {
	_, rest, found := strings.Cut(text, `connection_string = "`)
	if !found {
		return errors.New("the suite names no database")
	}
	path, _, _ := strings.Cut(rest, `"`)
	// What the suite asks for is fresh each time.
	namespace := fmt.Sprintf("suite/%d-%s", namespaces.next(), filepath.Base(filepath.Dir(path)))
	if err := s.DataStore.Configure(ctx, s.group.configuration(namespace)); err != nil {
		return err
	}
	// The suite expects this to be the last line.
	s.log.Info("Connected to SQL database")
	return nil
}

type sequence struct {
	lock sync.Mutex
	last int
}

func (s *sequence) next() int {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.last++
	return s.last
}

var namespaces sequence

func (s *suiteStore) DatabaseType() string       { return "steeple" }
func (s *suiteStore) Rebind(query string) string { return query }

// RawScan answers what the suite asks of every SQL database.
func (s *suiteStore) RawScan(destination any, query string) error {
	set := func(field string, value any) {
		reflect.ValueOf(destination).Elem().FieldByName(field).Set(reflect.ValueOf(value))
	}
	switch query {
	case "PRAGMA journal_mode":
		set("JournalMode", "wal")
	case "PRAGMA foreign_keys":
		set("ForeignKeys", "1")
	case "SELECT version, code_version FROM migrations":
		set("Version", suiteSchemaVersion)
		set("CodeVersion", suiteCodeVersion)
	default:
		return fmt.Errorf("unexpected query %q", query)
	}
	return nil
}

// RawExec does with calls what the suite does with SQL.
func (s *suiteStore) RawExec(query string, arguments ...any) error {
	ctx := context.Background()
	text := func(index int) string { return arguments[index].(string) }
	switch {
	case strings.HasPrefix(query, "INSERT INTO node_resolver_map_entries"):
		selectors, err := s.GetNodeSelectors(ctx, text(1), datastore.RequireCurrent)
		if err != nil {
			return err
		}
		added := &common.Selector{Type: text(2), Value: text(3)}
		return s.SetNodeSelectors(ctx, text(1), append(selectors, added))
	case query == "DELETE FROM registered_entries":
		listed, err := s.ListRegistrationEntries(ctx, &datastore.ListRegistrationEntriesRequest{})
		if err != nil {
			return err
		}
		for _, entry := range listed.Entries {
			if _, err := s.DeleteRegistrationEntry(ctx, entry.EntryId); err != nil {
				return err
			}
		}
		return nil
	case strings.HasPrefix(query, "INSERT INTO federated_trust_domains"):
		return s.insertRelationship(ctx, &spirev1.FederationRelationship{
			TrustDomain: text(0), BundleEndpointUrl: text(1), BundleEndpointProfile: text(2), EndpointSpiffeId: text(3),
		})
	default:
		return fmt.Errorf("unexpected statement %q", query)
	}
}

// insertRelationship stores a relationship that the adapter would not send. One that the node refuses as well is kept
// here, so that reading it shows what the adapter makes of it.
func (s *suiteStore) insertRelationship(ctx context.Context, relationship *spirev1.FederationRelationship) error {
	c, request, err := s.begin()
	if err != nil {
		return err
	}
	err = c.mutate(ctx, spirev1.Datastore_CreateFederationRelationship_FullMethodName,
		&spirev1.CreateFederationRelationshipRequest{Context: request, Relationship: relationship},
		new(spirev1.CreateFederationRelationshipResponse))
	if status.Code(err) != codes.InvalidArgument {
		return err
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.corrupt == nil {
		s.corrupt = make(map[string]*spirev1.FederationRelationship)
	}
	s.corrupt[relationship.TrustDomain] = relationship
	return nil
}

func (s *suiteStore) FetchFederationRelationship(
	ctx context.Context, trustDomain spiffeid.TrustDomain,
) (*datastore.FederationRelationship, error) {
	s.lock.Lock()
	relationship := s.corrupt[trustDomain.Name()]
	s.lock.Unlock()
	if relationship != nil {
		return relationshipOut(relationship)
	}
	return s.DataStore.FetchFederationRelationship(ctx, trustDomain)
}
