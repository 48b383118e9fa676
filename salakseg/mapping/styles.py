"""How QGIS shows a map: the styles that it takes by itself, as QML, its own format since 3.22.

For a raster QML lies beside it, of the same stem; for a layer of a GeoPackage in its table
`layer_styles`. A layer definition, QLR, opens several files at once, and has their styles in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from salakseg.classes import ClassMapping

# Dark where the network is unsure, to be told apart by the colour-blind too (viridis).
RAMP = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
OUTLINE_MM = 0.1


def classes_qml(mapping: ClassMapping) -> str:
    """A raster of class indices in class colours, with a legend of the classes and nothing else."""
    entries = "".join(
        f'<paletteEntry value="{index}" color="{_hex(color)}" alpha="255" label={quoteattr(name)}/>'
        for index, (name, color) in enumerate(zip(mapping.names, mapping.colors, strict=True))
    )
    return _raster(f'type="paletted"><colorPalette>{entries}</colorPalette>')


def confidence_qml(num_classes: int) -> str:
    """A raster of percent, from what the surest of `num_classes` has at least to 100."""
    least = 100 // num_classes
    items = "".join(
        f'<item value="{value:g}" color="{_hex(color)}" alpha="255" label="{value:.0f} %"/>'
        for number, color in enumerate(RAMP)
        for value in [least + (100 - least) * number / (len(RAMP) - 1)]
    )
    return _raster(
        f'type="singlebandpseudocolor" classificationMin="{least}" classificationMax="100">'
        '<rastershader><colorrampshader colorRampType="INTERPOLATED" classificationMode="1" '
        f'clip="0" minimumValue="{least}" maximumValue="100">{items}'
        '<rampLegendSettings useContinuousLegend="1" suffix=" %" prefix="" minimumLabel="" '
        'maximumLabel="" direction="0" orientation="2"/>'
        "</colorrampshader></rastershader>"
    )


def polygons_qml(mapping: ClassMapping, form: bool = False) -> str:
    """Polygons in class colours by their column `class`; with a form that offers the classes."""
    categories, symbols = "", ""
    for index, (name, color) in enumerate(zip(mapping.names, mapping.colors, strict=True)):
        label, rgb = quoteattr(name), ",".join(map(str, (*color, 255)))
        categories += (
            f'<category value={label} label={label} symbol="{index}" render="true" type="string"/>'
        )
        # Drawn without a line, polygons that share an edge leave a pale hair between them.
        options = {
            "color": rgb,
            "outline_color": rgb,
            "outline_style": "solid",
            "outline_width": OUTLINE_MM,
            "outline_width_unit": "MM",
            "style": "solid",
        }
        symbols += f'<symbol name="{index}" type="fill" alpha="1"><layer class="SimpleFill">'
        symbols += '<Option type="Map">'
        symbols += "".join(
            f'<Option name="{key}" value="{value}" type="QString"/>'
            for key, value in options.items()
        )
        symbols += "</Option></layer></symbol>"
    renderer = (
        '<renderer-v2 type="categorizedSymbol" attr="class">'
        f"<categories>{categories}</categories><symbols>{symbols}</symbols></renderer-v2>"
    )
    if not form:
        return _qgis(renderer)
    return _qgis(renderer + _value_list("class", mapping.names), "Symbology|Fields|Forms")


def points_qml(label: str, field: str, choices: Sequence[str]) -> str:
    """Crosses with a label each, and a form in which `field` is one of `choices` or empty."""
    options = {
        "name": "cross",
        "color": "230,25,25,255",
        "outline_color": "230,25,25,255",
        "outline_width": "0.5",
        "size": "5",
        "size_unit": "MM",
    }
    symbol = "".join(
        f'<Option name="{key}" value="{value}" type="QString"/>' for key, value in options.items()
    )
    return _qgis(
        '<renderer-v2 type="singleSymbol"><symbols><symbol name="0" type="marker" alpha="1">'
        f'<layer class="SimpleMarker"><Option type="Map">{symbol}</Option></layer></symbol>'
        "</symbols></renderer-v2>"
        f"<previewExpression>{quoteattr(label)}</previewExpression>"
        f"{_value_list(field, ('', *choices))}"
        '<editable><field name="id" editable="0"/><field name="map" editable="0"/>'
        '<field name="x" editable="0"/><field name="y" editable="0"/></editable>',
        "Symbology|Fields|Forms|MapTips",
    )


@dataclass(frozen=True)
class Layer:
    """A layer of a definition.

    Attributes:
        name: in the legend.
        source: its file, relative to the definition, and of a vector file the layer.
        qml: its style; None: QGIS's own.
        shown: at once; else it is in the legend only.
    """

    name: str
    source: str
    qml: str | None
    shown: bool


def layers_qlr(group: str, layers: Sequence[Layer], crs: str | None) -> str:
    """A group of layers, the uppermost first; `crs` is the WKT of that of all."""
    root = ElementTree.Element("qlr")
    tree = ElementTree.SubElement(root, "layer-tree-group", name="")
    tree = ElementTree.SubElement(tree, "layer-tree-group", name=group, expanded="1")
    maps = ElementTree.SubElement(root, "maplayers")
    for number, layer in enumerate(layers):
        is_vector = "|layername=" in layer.source
        checked = "Qt::Checked" if layer.shown else "Qt::Unchecked"
        # QGIS gives each one an id of its own as it opens them.
        ElementTree.SubElement(
            tree, "layer-tree-layer", id=f"{number}", name=layer.name, checked=checked
        )
        kind = "vector" if is_vector else "raster"
        one = ElementTree.SubElement(maps, "maplayer", type=kind, styleCategories="Symbology")
        for tag, text in (
            ("id", f"{number}"),
            ("datasource", layer.source),
            ("layername", layer.name),
            ("provider", "ogr" if is_vector else "gdal"),
        ):
            ElementTree.SubElement(one, tag).text = text
        # Without, QGIS takes the layer for one that has none, whatever its file says.
        if crs is not None:
            place = ElementTree.SubElement(ElementTree.SubElement(one, "srs"), "spatialrefsys")
            ElementTree.SubElement(place, "wkt").text = crs
        if layer.qml is not None:
            one.extend(ElementTree.fromstring(layer.qml))
    text = ElementTree.tostring(root, encoding="unicode") + "\n"
    # Names of files may hold bytes that are no text.
    return text.encode("utf-8", "replace").decode()


def _raster(renderer: str) -> str:
    return _qgis(
        f'<pipe><rasterrenderer band="1" opacity="1" alphaBand="-1" {renderer}'
        "</rasterrenderer></pipe>"
    )


def _qgis(content: str, categories: str = "Symbology") -> str:
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
        f'<qgis version="3.22" styleCategories="{categories}">{content}</qgis>\n'
    )


def _value_list(field: str, choices: Sequence[str]) -> str:
    """A form in which a field is one of these."""
    items = "".join(
        f'<Option type="Map"><Option name={quoteattr(one)} value={quoteattr(one)} type="QString"/>'
        "</Option>"
        for one in choices
    )
    return (
        f'<fieldConfiguration><field name="{field}"><editWidget type="ValueMap"><config>'
        f'<Option type="Map"><Option name="map" type="List">{items}</Option></Option>'
        "</config></editWidget></field></fieldConfiguration>"
    )


def _hex(color: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
