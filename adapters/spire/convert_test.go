package steeple

import (
	"math/rand/v2"
	"net/url"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/spire/pkg/server/datastore"
	"github.com/spiffe/spire/proto/spire/common"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"steeple.internal/adapters/spire/internal/wire/spirev1"
)

const rounds = 500

// fill sets fields of a message at random, deeply.
func fill(random *rand.Rand, message protoreflect.Message) {
	fields := message.Descriptor().Fields()
	for index := range fields.Len() {
		field := fields.Get(index)
		if random.IntN(4) == 0 {
			continue
		}
		switch {
		case field.IsList():
			list := message.Mutable(field).List()
			for range random.IntN(4) {
				if field.Message() != nil {
					element := list.NewElement()
					fill(random, element.Message())
					list.Append(element)
				} else {
					list.Append(scalar(random, field))
				}
			}
		case field.Message() != nil:
			fill(random, message.Mutable(field).Message())
		default:
			message.Set(field, scalar(random, field))
		}
	}
}

func scalar(random *rand.Rand, field protoreflect.FieldDescriptor) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(random.IntN(2) == 0)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(random.Uint32()))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(random.Uint64()))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(random.Uint64())
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(text(random))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(text(random)))
	default:
		panic("a kind of field that SPIRE's records did not have: " + field.Kind().String())
	}
}

func text(random *rand.Rand) string {
	letters := []rune("aZ09-./:é\x00 ")
	runes := make([]rune, random.IntN(12))
	for index := range runes {
		runes[index] = letters[random.IntN(len(letters))]
	}
	return string(runes)
}

// overTheWire is what arrives of a message.
func overTheWire[Message proto.Message](t *testing.T, message Message) Message {
	t.Helper()
	encoded, err := proto.Marshal(message)
	require.NoError(t, err)
	arrived := message.ProtoReflect().New().Interface()
	require.NoError(t, proto.Unmarshal(encoded, arrived))
	return arrived.(Message)
}

func addUnknown(random *rand.Rand, message proto.Message) {
	if random.IntN(2) == 0 {
		encoded := protowire.AppendTag(nil, 4000, protowire.VarintType)
		message.ProtoReflect().SetUnknown(protowire.AppendVarint(encoded, random.Uint64()))
	}
}

func TestBundlesSurviveTheWayThereAndBack(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for range rounds {
		bundle := new(common.Bundle)
		fill(random, bundle.ProtoReflect())
		addUnknown(random, bundle)
		for _, certificate := range bundle.RootCas {
			addUnknown(random, certificate)
		}
		for _, key := range bundle.JwtSigningKeys {
			addUnknown(random, key)
		}
		before := proto.Clone(bundle)
		in, err := bundleIn(bundle)
		require.NoError(t, err)
		out, err := bundleOut(overTheWire(t, in))
		require.NoError(t, err)
		require.True(t, proto.Equal(bundle, out), "%v\n%v", bundle, out)
		require.True(t, proto.Equal(before, bundle), "the argument was changed")
	}
}

func TestEntriesSurviveTheWayThereAndBack(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 2))
	for range rounds {
		entry := new(common.RegistrationEntry)
		fill(random, entry.ProtoReflect())
		if entry.AdditionalAttributes != nil {
			addUnknown(random, entry.AdditionalAttributes)
		}
		in, err := entryIn(entry)
		require.NoError(t, err)
		out, err := entryOut(overTheWire(t, in))
		require.NoError(t, err)
		require.True(t, proto.Equal(entry, out), "%v\n%v", entry, out)
	}
}

func TestNodesSurviveTheWayThereAndBack(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 3))
	for range rounds {
		attested := new(common.AttestedNode)
		fill(random, attested.ProtoReflect())
		out := nodeOut(overTheWire(t, nodeIn(attested)))
		require.True(t, proto.Equal(attested, out), "%v\n%v", attested, out)
	}
}

// A mask has a field for each field of ours, so nothing may get lost between two masks field by field.
func TestMasksSetTheSameFields(t *testing.T) {
	bundleMask, entryMask, nodeMask :=
		new(common.BundleMask), new(common.RegistrationEntryMask), new(common.AttestedNodeMask)
	convert := map[proto.Message]func() proto.Message{
		bundleMask: func() proto.Message { return bundleMaskIn(bundleMask) },
		entryMask:  func() proto.Message { return entryMaskIn(entryMask) },
		nodeMask:   func() proto.Message { return nodeMaskIn(nodeMask) },
	}
	for mask, converted := range convert {
		fields := mask.ProtoReflect().Descriptor().Fields()
		for index := range fields.Len() {
			proto.Reset(mask)
			mask.ProtoReflect().Set(fields.Get(index), protoreflect.ValueOfBool(true))
			in, err := proto.Marshal(converted())
			require.NoError(t, err)
			expected, err := proto.Marshal(mask)
			require.NoError(t, err)
			require.Equal(t, expected, in, "%s", fields.Get(index).FullName())
		}
	}
	require.Nil(t, bundleMaskIn(nil))
	require.Nil(t, entryMaskIn(nil))
	require.Nil(t, nodeMaskIn(nil))
	require.Nil(t, relationshipMaskIn(nil))
}

// A field that SPIRE adds to a message which is not stored whole would be lost without a word.
func TestNoFieldOfSPIRESIsUnknownToUs(t *testing.T) {
	pairs := [][2]proto.Message{
		{new(common.RegistrationEntry), new(spirev1.RegistrationEntry)},
		{new(common.AttestedNode), new(spirev1.AttestedNode)},
		{new(common.Selector), new(spirev1.Selector)},
	}
	for _, pair := range pairs {
		theirs, ours := pair[0].ProtoReflect().Descriptor(), pair[1].ProtoReflect().Descriptor()
		for index := range theirs.Fields().Len() {
			field := theirs.Fields().Get(index)
			require.NotNil(t, ours.Fields().ByNumber(field.Number()), "%s", field.FullName())
		}
	}
	known := map[proto.Message]protoreflect.FieldNumber{
		new(common.Bundle): bundleFields, new(common.Certificate): certificateFields, new(common.PublicKey): publicKeyFields,
		new(common.RegistrationEntry_AdditionalAttributes): attributesFields,
	}
	for message, last := range known {
		fields := message.ProtoReflect().Descriptor().Fields()
		for number := protoreflect.FieldNumber(1); number <= last; number++ {
			require.NotNil(t, fields.ByNumber(number), "%s has no field %d", message.ProtoReflect().Descriptor().FullName(), number)
		}
	}
}

// As if a later SPIRE had a third field in certificates, that this adapter does not know.
func TestFieldsOfLaterVersionsAreKept(t *testing.T) {
	key := &common.PublicKey{PkixBytes: []byte("key"), Kid: "kid", NotAfter: 5, TaintedKey: true}
	encoded, err := otherFields(key, 2)
	require.NoError(t, err)
	out := &common.PublicKey{PkixBytes: []byte("key"), Kid: "kid"}
	require.NoError(t, mergeFields(out, encoded))
	require.True(t, proto.Equal(key, out), "%v", out)
}

func TestEmptyListsAreNil(t *testing.T) {
	entry, err := entryOut(&spirev1.RegistrationEntry{
		Selectors: []*spirev1.Selector{}, DnsNames: []string{}, FederatesWith: []string{},
	})
	require.NoError(t, err)
	require.Nil(t, entry.Selectors)
	require.Nil(t, entry.DnsNames)
	require.Nil(t, entry.FederatesWith)
	require.Nil(t, entry.AdditionalAttributes)
	require.Nil(t, nodeOut(&spirev1.AttestedNode{Selectors: []*spirev1.Selector{}}).Selectors)
	bundle, err := bundleOut(&spirev1.Bundle{RootCas: []*spirev1.Certificate{}})
	require.NoError(t, err)
	require.Nil(t, bundle.RootCas)
}

func TestInstantsCompareAsTheyAre(t *testing.T) {
	require.Zero(t, instantRoundedUp(time.Time{}))
	require.Zero(t, instantRoundedDown(time.Time{}))
	require.EqualValues(t, -1, instantRoundedUp(time.Unix(0, 0)), "the epoch is no absent time")
	require.EqualValues(t, 5_000_000, instantRoundedUp(time.Unix(5, 0)))
	require.EqualValues(t, 5_000_001, instantRoundedUp(time.Unix(5, 1)), "5 is before it")
	require.EqualValues(t, 5_000_000, instantRoundedUp(time.Unix(4, 999_999_500)), "5 is not before it")
	require.EqualValues(t, 4_999_999, instantRoundedDown(time.Unix(4, 999_999_500)), "5 is after it")
	require.EqualValues(t, 5_000_000, instantRoundedDown(time.Unix(5, 1)), "5 is not after it")
}

func TestRelationshipsSurviveTheWayThereAndBack(t *testing.T) {
	endpoint, err := url.Parse("https://td.test/path?a=b")
	require.NoError(t, err)
	for _, relationship := range []*datastore.FederationRelationship{
		{
			TrustDomain: spiffeid.RequireTrustDomainFromString("td.test"), BundleEndpointURL: endpoint,
			BundleEndpointProfile: datastore.BundleEndpointWeb,
		},
		{
			TrustDomain: spiffeid.RequireTrustDomainFromString("td.test"), BundleEndpointURL: endpoint,
			BundleEndpointProfile: datastore.BundleEndpointSPIFFE,
			EndpointSPIFFEID:      spiffeid.RequireFromString("spiffe://td.test/endpoint"),
		},
	} {
		in, err := relationshipIn(relationship)
		require.NoError(t, err)
		out, err := relationshipOut(overTheWire(t, in))
		require.NoError(t, err)
		require.Equal(t, relationship, out)
		require.Equal(t, relationship, relationshipCopied(relationship))
		require.NotSame(t, relationship.BundleEndpointURL, relationshipCopied(relationship).BundleEndpointURL)
	}
}

func TestWhatDoesNotParseIsAnErrorAndNotAbsent(t *testing.T) {
	for expected, relationship := range map[string]*spirev1.FederationRelationship{
		`unable to parse URL: parse "not-valid%": invalid URL escape "%"`: {
			TrustDomain: "td", BundleEndpointUrl: "not-valid%", BundleEndpointProfile: "https_web",
		},
		"unable to parse bundle endpoint SPIFFE ID: scheme is missing or invalid": {
			TrustDomain: "td", BundleEndpointUrl: "u", BundleEndpointProfile: "https_spiffe", EndpointSpiffeId: "x",
		},
		`unknown bundle endpoint profile type: "other"`: {
			TrustDomain: "td", BundleEndpointUrl: "u", BundleEndpointProfile: "other",
		},
	} {
		out, err := relationshipOut(relationship)
		require.Nil(t, out)
		require.Equal(t, codes.Unknown, status.Code(err))
		require.Equal(t, expected, status.Convert(err).Message())
	}
}

func TestPagesEchoTheirSize(t *testing.T) {
	require.Nil(t, pageOut(nil, &spirev1.Pagination{Token: "5"}))
	asked := &datastore.Pagination{Token: "2", PageSize: 7}
	require.Equal(t, &datastore.Pagination{Token: "5", PageSize: 7}, pageOut(asked, &spirev1.Pagination{Token: "5"}))
	require.Equal(t, &datastore.Pagination{Token: "2", PageSize: 7}, asked)
}
