"""Metadata of the distribution; the tools are configured in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

TESTS = [
    "pytest>=8.3",
    "pytest-asyncio>=1.0",
    "pytest-randomly>=3.15",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "hypothesis>=6.100",
    "scikit-learn>=1.5",
    "torch==2.13.0",
    "onnxscript>=0.7",
    "psycopg[binary]>=3.2",
    "redis>=5.1",
    "distributed>=2025.1",
    "ray>=2.40",
    "boto3>=1.36",
    "opentelemetry-sdk>=1.30",
    "opentelemetry-exporter-otlp-proto-http>=1.30",
    "swift>=2.36; sys_platform == 'linux'",
]
LINTERS = ["ruff>=0.9", "mypy>=1.14", "import-linter>=2.1"]
BENCHMARKS = [
    "torch==2.13.0",
    "scikit-learn>=1.5",
    "distributed>=2025.1",
    "ray>=2.40",
    "boto3>=1.36",
    "swift>=2.36; sys_platform == 'linux'",
]

setup(
    name="ravenverse",
    version="0.1.0",
    description="A distributed compute-graph framework with volunteer nodes, on ONNX",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["ravop*", "ravdl*", "ravsock*", "provider*"]),
    package_data={
        "ravop": ["py.typed"],
        "ravdl": ["py.typed"],
        "ravsock": ["py.typed", "store/migrations/*", "store/migrations/versions/*.py"],
        "provider": ["py.typed"],
    },
    install_requires=[
        "numpy>=2.0",
        "ml_dtypes>=0.5",
        "onnx>=1.20",
        "onnx-ir>=1.0",
        "onnxruntime>=1.20",
        "msgspec>=0.19",
        "python-socketio>=5.12",
        "aiohttp>=3.10",
        "uvicorn>=0.32",
        "httptools>=0.6",
        "uvloop>=0.21; sys_platform != 'win32'",
        "websockets>=14",
        "filelock>=3.15",
        "flask>=3.0",
        "a2wsgi>=1.10",
        "sqlalchemy>=2.0.30",
        "alembic>=1.13",
        "click>=8.1",
        "rich>=13.7",
        "tenacity>=9.0",
        "psutil>=6.0",
        "platformdirs>=4.2",
        "prometheus-client>=0.20",
    ],
    extras_require={
        "postgresql": ["psycopg[binary]>=3.2"],
        "redis": ["redis>=5.1"],
        "tracing": ["opentelemetry-sdk>=1.30", "opentelemetry-exporter-otlp-proto-http>=1.30"],
        "s3": ["boto3>=1.36"],
        "dask": ["distributed>=2025.1"],
        "ray": ["ray[client]>=2.40"],
        "examples": ["scikit-learn>=1.5"],
        "torch": ["torch>=2.13", "onnxscript>=0.7"],
        "benchmarks": BENCHMARKS,
        "development": sorted({*TESTS, *LINTERS}),
    },
    entry_points={
        "console_scripts": [
            "ravop = ravop.cli:main",
            "ravsock = ravsock.cli:main",
            "provider = provider.cli:main",
        ]
    },
)
