"""The settings of tenant-registry."""

from pydantic import AwareDatetime, BaseModel, Field

from shared.settings import HttpSettings, ServiceSettings


class RegistryHttpSettings(HttpSettings):
    """Where the service listens."""

    port: int = Field(8081, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")


class ProjectionSettings(BaseModel):
    """How consent events are brought into MongoDB."""

    loops: int = Field(2, ge=1, le=16, description="Batches in flight at once; each is a member of the consumer group.")
    max_records: int = Field(1000, ge=1, le=10_000, description="Most records in a batch.")
    silent_before: AwareDatetime | None = Field(
        None,
        description="Events older than this (RFC 3339) are projected, and announced to nobody: for reading again what "
        "was announced long ago (docs/operations.md).",
    )


class StateSettings(BaseModel):
    """How whole tenant documents are brought to the compacted topic."""

    enabled: bool = Field(
        True, description="Whether tenant documents are published; off while they are rebuilt (docs/operations.md)."
    )
    transactional_id: str = Field(
        "tenant-registry-state",
        min_length=1,
        description="Kafka's transactional.id of the one active publisher: the same on all replicas of a deployment, "
        "another on every other deployment of the same Kafka cluster.",
    )
    lease_seconds: float = Field(10, gt=0, description="How long a publisher that died holds back the next one.")


class Settings(ServiceSettings):
    """All settings of the service."""

    http: RegistryHttpSettings = Field(default_factory=RegistryHttpSettings)
    projection: ProjectionSettings = Field(default_factory=ProjectionSettings)
    state: StateSettings = Field(default_factory=StateSettings)
