from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RequestParams(_message.Message):
    __slots__ = ("last_processed_uuid", "chunk_size")
    LAST_PROCESSED_UUID_FIELD_NUMBER: _ClassVar[int]
    CHUNK_SIZE_FIELD_NUMBER: _ClassVar[int]
    last_processed_uuid: str
    chunk_size: int
    def __init__(self, last_processed_uuid: _Optional[str] = ..., chunk_size: _Optional[int] = ...) -> None: ...

class Embedding(_message.Message):
    __slots__ = ("id", "company_name", "exp_years", "english_level", "primary_keyword", "vector")
    ID_FIELD_NUMBER: _ClassVar[int]
    COMPANY_NAME_FIELD_NUMBER: _ClassVar[int]
    EXP_YEARS_FIELD_NUMBER: _ClassVar[int]
    ENGLISH_LEVEL_FIELD_NUMBER: _ClassVar[int]
    PRIMARY_KEYWORD_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    id: str
    company_name: str
    exp_years: int
    english_level: str
    primary_keyword: str
    vector: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, id: _Optional[str] = ..., company_name: _Optional[str] = ..., exp_years: _Optional[int] = ..., english_level: _Optional[str] = ..., primary_keyword: _Optional[str] = ..., vector: _Optional[_Iterable[float]] = ...) -> None: ...

class RowChunk(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[Embedding]
    def __init__(self, rows: _Optional[_Iterable[_Union[Embedding, _Mapping]]] = ...) -> None: ...

class UploadResult(_message.Message):
    __slots__ = ("total_count", "success_count", "failed_count", "failed_ids")
    TOTAL_COUNT_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_COUNT_FIELD_NUMBER: _ClassVar[int]
    FAILED_COUNT_FIELD_NUMBER: _ClassVar[int]
    FAILED_IDS_FIELD_NUMBER: _ClassVar[int]
    total_count: int
    success_count: int
    failed_count: int
    failed_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, total_count: _Optional[int] = ..., success_count: _Optional[int] = ..., failed_count: _Optional[int] = ..., failed_ids: _Optional[_Iterable[str]] = ...) -> None: ...
