"""Validates SPDX documents and SLSA build records. Prints one JSON list of problems, each with its file."""

import json
import sys

from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from packageurl import PackageURL
from spdx_tools.spdx.parser.json.json_parser import parse_from_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document


def spdx_problems(path):
    document = parse_from_file(path)
    yield from (message.validation_message for message in validate_full_spdx_document(document))
    ids = [package.spdx_id for package in document.packages]
    yield from (f"{one} is not unique" for one in sorted(set(ids)) if ids.count(one) > 1)
    related = {relationship.related_spdx_element_id for relationship in document.relationships}
    yield from (f"{one} is related to nothing" for one in ids if one not in related)
    for package in document.packages:
        for reference in package.external_references:
            canonical = PackageURL.from_string(reference.locator).to_string()
            if canonical != reference.locator:
                yield f"package URL {reference.locator} is not canonical: {canonical}"


def provenance_problems(path):
    with open(path, encoding="utf-8") as file:
        record = json.load(file)
    # Fields that the schemas do not have are errors.
    json_format.ParseDict(record, statement_pb2.Statement())
    provenance = json_format.ParseDict(record["predicate"], provenance_pb2.Provenance())
    definition = provenance.build_definition
    if not record["subject"] or not all(one.get("name") and one.get("digest") for one in record["subject"]):
        yield "a subject without name or digest"
    if ":" not in definition.build_type or not definition.external_parameters:
        yield "buildDefinition lacks buildType (a URI) or externalParameters"
    if ":" not in provenance.run_details.builder.id:
        yield "runDetails.builder.id is not a URI"
    for one in definition.resolved_dependencies:
        if not one.digest or ":" not in one.uri:
            yield f"dependency {one.name or one.uri} lacks a digest or a URI"


found = []
for path in sys.argv[1:]:
    check = spdx_problems if path.endswith(".spdx.json") else provenance_problems
    try:
        found += [f"{path}: {problem}" for problem in check(path)]
    except Exception as error:  # whatever a validator throws is a problem of the file
        found.append(f"{path}: {type(error).__name__}: {error}")
print(json.dumps(found))
